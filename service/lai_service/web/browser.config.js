// `config.js` of STAC Browser, after lines that state base, tiles, styles and order.
// Tiles come from the service, in the colours of the thumbnails; the legend stands where maps have
// their attribution. Fields are put into order: the stored document has its keys sorted.
const keyOf = shown => shown.rel === 'xyz' ? 'lai' : shown.getKey ? shown.getKey() : shown.key;
const styleOf = shown => shown.getAbsoluteUrl().startsWith(base) && styles[keyOf(shown)] || {};
const ordered = fields => Object.fromEntries(
  Object.entries(fields).sort(([a], [b]) => order.indexOf(a) - order.indexOf(b)));
window.STAC_BROWSER_CONFIG = {
  catalogUrl: base,
  allowExternalAccess: true,
  displayGeoTiffByDefault: true,
  useTileLayerAsFallback: false,
  buildTileUrlTemplate: asset => base + tiles + '?'
    + (styleOf(asset).query || '') + 'url=' + encodeURIComponent(asset.getAbsoluteUrl()),
  getMapSourceOptions: (type, options, shown) => Object.assign(options, styleOf(shown).legend
    ? { attributions: styleOf(shown).legend, attributionsCollapsible: false } : {}),
  preprocessSTAC: stac => {
    for (const part of ['properties', 'summaries'].filter(name => stac[name])) {
      stac[part] = ordered(stac[part]);
    }
    return stac;
  },
};
