cwlVersion: v1.2
# OGC Application Package (OGC 20-089r1) of `lai-udf run`: one staged STAC item or scene in, COGs out.
$graph:
  - class: Workflow
    id: lai
    label: Leaf area index from Sentinel-2 L2A
    doc: LAI with interval and flags of one Sentinel-2 L2A scene, as cloud-optimised GeoTIFFs.
    requirements: {}
    inputs:
      scene:
        type: Directory
        label: Sentinel-2 L2A product
        doc: Folder of a SAFE product, of its bands as single files, or of GeoTIFFs.
      target:
        type: string
        default: sl2p
        label: sl2p or field
      samples:
        type: int
        default: 0
        label: Monte-Carlo draws
    outputs:
      results:
        type: Directory
        outputSource: run/results
    steps:
      run:
        run: "#lai-udf-run"
        in: {scene: scene, target: target, samples: samples}
        out: [results]
  - class: CommandLineTool
    id: lai-udf-run
    baseCommand: [lai-udf, run]
    hints:
      DockerRequirement:
        dockerPull: sentinel2-lai:0.1.0
    requirements:
      ResourceRequirement: {coresMin: 2, ramMin: 4096}
    inputs:
      scene:
        type: Directory
        inputBinding: {position: 1}
      target:
        type: string
        inputBinding: {prefix: --target, position: 3}
      samples:
        type: int
        inputBinding: {prefix: --samples, position: 4}
    arguments:
      - {valueFrom: results, position: 2}
    outputs:
      results:
        type: Directory
        outputBinding: {glob: results}
