// Resample a grid of cells onto pixels: between cell centres (align_corners=False), the average of cells
// that are smaller than a pixel.
function linearTaps(cells, pixels) {
  const density = cells / pixels;
  const reach = Math.max(1, density);
  const count = 2 * Math.ceil(reach);
  const places = new Int32Array(pixels * count);
  const weights = new Float32Array(pixels * count);
  for (let pixel = 0; pixel < pixels; pixel += 1) {
    const centre = (pixel + 0.5) * density - 0.5;
    const first = Math.floor(centre - reach) + 1;
    let total = 0;
    for (let tap = 0; tap < count; tap += 1) {
      const weight = Math.max(0, 1 - Math.abs(first + tap - centre) / reach);
      places[pixel * count + tap] = Math.min(cells - 1, Math.max(0, first + tap));
      weights[pixel * count + tap] = weight;
      total += weight;
    }
    for (let tap = 0; tap < count; tap += 1) weights[pixel * count + tap] /= total;
  }
  return { count, places, weights };
}

// [gridHeight * gridWidth] bytes -> [height * width] floats in the same unit.
function resample(values, [gridHeight, gridWidth], height, width) {
  const across = linearTaps(gridWidth, width);
  const wide = new Float32Array(gridHeight * width);
  for (let row = 0; row < gridHeight; row += 1) {
    for (let x = 0; x < width; x += 1) {
      let sum = 0;
      for (let tap = x * across.count; tap < (x + 1) * across.count; tap += 1) {
        sum += across.weights[tap] * values[row * gridWidth + across.places[tap]];
      }
      wide[row * width + x] = sum;
    }
  }
  const down = linearTaps(gridHeight, height);
  const result = new Float32Array(height * width);
  for (let y = 0; y < height; y += 1) {
    for (let tap = y * down.count; tap < (y + 1) * down.count; tap += 1) {
      const weight = down.weights[tap];
      if (weight === 0) continue;
      const from = down.places[tap] * width;
      for (let x = 0; x < width; x += 1) result[y * width + x] += weight * wide[from + x];
    }
  }
  return result;
}
