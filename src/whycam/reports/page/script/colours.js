// Values in [0, 1] -> colours and opacities.
const tables = new Map(Object.entries(INDEX.colormaps).map(([name, text]) => [name, bytes(text)]));

// Ties go up beyond doubt, or rounding errors would split a constant value into two levels.
const levelOf = (value) => Math.floor(value * 255 + 0.501);

function shareOf(value, look) {
  if (value < look.threshold) return 0;
  return look.rising ? value * look.opacity : look.opacity;
}

// Fill RGBA pixels with the colours of heat * factor.
function colour(heat, factor, look, pixels) {
  const table = tables.get(look.colormap);
  for (let at = 0; at < heat.length; at += 1) {
    const value = Math.min(1, heat[at] * factor);
    const level = 3 * levelOf(value);
    pixels[4 * at] = table[level];
    pixels[4 * at + 1] = table[level + 1];
    pixels[4 * at + 2] = table[level + 2];
    pixels[4 * at + 3] = Math.round(255 * shareOf(value, look));
  }
}
