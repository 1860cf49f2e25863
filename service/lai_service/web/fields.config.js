// How STAC Browser shows our fields: labels, units and words. The registry is that of
// @radiantearth/stac-fields. What a formatter returns is put into the page as HTML, so it escapes
// what comes from an item.
import { Registry } from '@radiantearth/stac-fields';

const escape = text => String(text).replace(/[&<>"']/g, c => `&#${c.charCodeAt(0)};`);

// 0.0597 -> 6 %; summaries hand over ranges and lists, which stay as they are
const percent = value => typeof value !== 'number' ? escape(JSON.stringify(value))
  : `${Number((100 * value).toPrecision(3))} %`;

const steps = graph => Object.values(graph || {}).flatMap(node => [
  node.process_id,
  ...Object.values(node.arguments || {}).flatMap(a => steps(a && a.process_graph)),
]);

// The text of a UDF fills pages: the names of the processes, the whole graph on demand.
const processGraph = value => {
  const whole = escape(JSON.stringify(value && value.expression, null, 2));
  const names = value && value.format === 'openeo' ? steps(value.expression) : [];
  return `${escape(value && value.format)}: ${escape(names.join(', '))}
    <details><summary>whole expression</summary>
    <pre style="max-height:30em;overflow:auto">${whole}</pre></details>`;
};

Registry.addExtension('laiq', 'LAI quality');
Registry.addExtension('unc', 'Uncertainty');

// STAC writes units for machines
const bands = Registry.getSpecification('bands');
if (bands.items && bands.items.unit) {
  Object.assign(bands.items.unit, { mapping: { 'm2 m-2': 'm² m⁻²' } });
}

const unit = 'm² m⁻²';
const rounded = value => typeof value !== 'number' ? escape(JSON.stringify(value))
  : `${Number(value.toFixed(3))} ${unit}`; // LAI is stored in steps of 0.001
const lai = label => ({ label, formatter: rounded });
const share = label => ({ label, formatter: percent });

// The order is that of the page: LAI, how sure, how much of it, what it is, where it comes from.
const fields = {
  'laiq:lai_mean': lai('Mean LAI'),
  'laiq:lai_median': lai('Median LAI'),
  'laiq:lai_p05': lai('LAI, 5th percentile'),
  'laiq:lai_p95': lai('LAI, 95th percentile'),
  'laiq:uncertainty_mean': lai('Mean uncertainty'),
  'laiq:uncertainty_median': lai('Median uncertainty'),
  'laiq:uncertainty_p95': lai('Uncertainty, 95th percentile'),
  'laiq:relative_uncertainty_median': share('Median relative uncertainty'),
  'laiq:valid_fraction': share('Valid pixels'),
  'laiq:cloud_fraction': share('Cloud'),
  'laiq:shadow_fraction': share('Cloud shadow'),
  'laiq:snow_fraction': share('Snow'),
  'laiq:water_fraction': share('Water'),
  'laiq:nodata_fraction': share('No data'),
  'laiq:input_out_of_domain_fraction': share('Input out of domain'),
  'laiq:output_out_of_range_fraction': share('Output out of range'),
  'laiq:pixel_count': { label: 'Pixels' },
  'laiq:variable': { label: 'Variable' },
  'laiq:quantity': { label: 'LAI definition' },
  'laiq:elements': { label: 'Plant elements counted' },
  'laiq:target': {
    label: 'What the estimate aims at',
    mapping: { sl2p: 'What SL2P (SNAP) would estimate', field: 'Corrected to field measurements' },
  },
  'laiq:valid_range': { label: 'Valid range of LAI', unit, format: 'Extent' },
  'unc:of': { label: 'Uncertainty of' },
  'unc:type': {
    label: 'Type of uncertainty',
    mapping: {
      standard_deviation: 'Standard deviation',
      expanded: 'Expanded uncertainty',
      ci_half_width: 'Half width of the interval',
      interval_lower: 'Lower end of the interval',
      interval_upper: 'Upper end of the interval',
    },
  },
  'unc:method': {
    label: 'Method of uncertainty',
    mapping: {
      mc_dropout: 'Monte-Carlo dropout',
      ensemble: 'Ensemble',
      heteroscedastic: 'Estimated by the network',
      conformal: 'Conformal: calibrated on measurements',
      other: 'Other',
    },
  },
  'unc:components': { label: 'Components of uncertainty', format: 'CSV' },
  'unc:confidence_level': share('Confidence level'),
  'unc:coverage_factor': { label: 'Coverage factor k' },
  'laiq:gcos_goal_fraction': share('Predicted within GCOS goal'),
  'laiq:gcos_threshold_fraction': share('Predicted within GCOS threshold'),
  'laiq:requirements': {
    label: 'Requirements',
    items: {
      id: { label: 'Requirement', order: 0, id: true },
      relative: { ...share('Limit, relative to LAI'), order: 1 },
      absolute: { ...lai('Limit of low LAI'), order: 2 },
      switch_lai: { ...lai('Low LAI is below'), order: 3 },
      coverage_factor: { label: 'Coverage factor k', order: 4 },
      fraction: { ...share('Pixels within the limit'), order: 5 },
      basis: { label: 'Judged', order: 6 },
    },
  },
  'unc:calibration': {
    label: 'Calibration',
    properties: {
      applied: 'Applied to the published interval',
      method: 'Method',
      dataset: 'Calibrated on',
      n: 'Reference values',
      coverage: 'Observed coverage by nominal level',
      ece: 'Expected calibration error',
      scale_factor: 'Scale factor',
    },
  },
  'laiq:validation': {
    label: 'Validation',
    properties: {
      stage: 'CEOS LPV stage',
      n_sites: 'Sites',
      n_samples: 'Pairs',
      rmse: lai('RMSE'),
      bias: lai('Bias'),
      mae: lai('MAE'),
      r2: 'R² = 1 - SSE/SST',
      uncertainty_agreement_ratio: share('Within the requirement'),
      reference: 'Reference',
      doi: { label: 'DOI', format: 'DOI' },
      period: { label: 'Period', format: 'TemporalExtent' },
    },
  },
  'laiq:model_id': { label: 'Model' },
  'laiq:model_version': { label: 'Model version' },
  'laiq:model_checksum': { label: 'Checksum of the model', format: 'Checksum' },
  'unc:samples': { label: 'Monte-Carlo samples' },
  'unc:dropout_rate': share('Dropout rate'),
  'unc:random_seed': { label: 'Random seed' },
  'processing:expression': { label: 'Process', formatter: processGraph, summary: false },
};
for (const [name, field] of Object.entries(fields)) Registry.addMetadataField(name, field);
