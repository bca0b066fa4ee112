"use strict";
// Decoder of a packed scene; recon/player/packing.py describes the format and is its reference.

/**
 * @typedef {{name: string, type: "u8" | "u16" | "f32", shape: number[], offset: number, delta?: boolean}} Section
 * @typedef {{means: number[][], scales: number[][], sh0: number[][], shN: number[][]}} Ranges
 * @typedef {{count: number, ranges: Ranges, sections: Section[]}} PackedSet
 * @typedef {{fl_x: number, fl_y: number, cx: number, cy: number, w: number, h: number, transform_matrix: number[][]}} InputCamera
 * @typedef {InputCamera & {frames: {time: number, cx: number, cy: number}[]}} SourceCamera
 * @typedef {{format: string, version: number, kind: "static" | "bones" | "keyframes" | "frames", sh_degree: number,
 *   times: number[], fps: number, background: number[], camera: InputCamera, focus: number[],
 *   source?: SourceCamera | null, unit: number, motion_times: number[], sets: PackedSet[]}} Header
 * @typedef {{count: number, ranges: Ranges, arrays: Record<string, Uint8Array | Uint16Array | Float32Array>}} SplatSet
 * @typedef {{header: Header, sets: SplatSet[]}} Scene
 */

/** Decode base64 in pieces, so that the page stays responsive.
 * @param {string} text
 * @param {(share: number) => void} onProgress
 * @returns {Promise<Uint8Array<ArrayBuffer>>} */
async function bytesFromBase64(text, onProgress) {
  const clean = text.trim();
  const padding = clean.endsWith("==") ? 2 : clean.endsWith("=") ? 1 : 0;
  const bytes = new Uint8Array((clean.length / 4) * 3 - padding);
  const step = 4 << 16;
  for (let start = 0, end = 0; start < clean.length; start += step) {
    const piece = atob(clean.slice(start, start + step));
    for (let i = 0; i < piece.length; i++) bytes[end++] = piece.charCodeAt(i);
    onProgress(Math.min(1, (start + step) / clean.length));
    await new Promise((resolve) => setTimeout(resolve));
  }
  return bytes;
}

/** Decompress gzip.
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @returns {Promise<ArrayBuffer>} */
async function inflate(bytes) {
  if (typeof DecompressionStream === "undefined") {
    throw new Error("This browser is too old to decompress the scene. Please use a version from 2023 or later.");
  }
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  try {
    return await new Response(stream).arrayBuffer();
  } catch {
    throw new Error("The scene in this page is damaged or cut off. Please export it again.");
  }
}

/** Decode a packed scene.
 * @param {ArrayBuffer} buffer
 * @returns {Scene} */
function unpackScene(buffer) {
  const length = buffer.byteLength < 4 ? 0 : new DataView(buffer).getUint32(0, true);
  if (length === 0 || 4 + length > buffer.byteLength) {
    throw new Error("The scene in this page is damaged or cut off. Please export it again.");
  }
  const header = /** @type {Header} */ (JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length))));
  if (header.format !== "fourdvd-player" || header.version !== 1) {
    throw new Error("The scene was written for another version of the player. Please export it again.");
  }
  const sets = header.sets.map((set) => ({
    count: set.count,
    ranges: set.ranges,
    arrays: Object.fromEntries(set.sections.map((s) => [s.name, sectionValues(s, buffer, 4 + length)])),
  }));
  return { header, sets };
}

/** @param {Section} section @param {ArrayBuffer} buffer @param {number} base */
function sectionValues(section, buffer, base) {
  const count = section.shape.reduce((product, size) => product * size, 1);
  if (section.type === "f32") return new Float32Array(buffer, base + section.offset, count);
  const wide = section.type === "u16";
  const planes = new Uint8Array(buffer, base + section.offset, wide ? 2 * count : count);
  const values = wide ? new Uint16Array(count) : new Uint8Array(count);
  for (let i = 0; i < count; i++) values[i] = wide ? planes[i] | (planes[count + i] << 8) : planes[i];
  if (section.delta) {
    const row = count / section.shape[0];
    for (let i = row; i < count; i++) values[i] += values[i - row]; // modulo 2^8 or 2^16
  }
  return values;
}

/** Number of poses of a set. @param {SplatSet} set */
function poseCount(set) {
  return set.arrays.means.length / (3 * set.count);
}

/** Pack a pose for the GPU: mean 3 × 16 bits, rotation 2 + 3 × 10, scales 3 × 8, opacity 8.
 * @param {SplatSet} set
 * @param {number} pose
 * @param {number} texels capacity of the texture
 * @returns {Uint32Array} four numbers per Gaussian */
function poseTexels(set, pose, texels) {
  const n = set.count;
  const { means, quats, largest, scales, opacities } = set.arrays;
  const m = 3 * n * pose;
  const s = scales.length > 3 * n ? m : 0;
  const result = new Uint32Array(4 * texels);
  for (let i = 0; i < n; i++) {
    result[4 * i] = means[m + i] | (means[m + n + i] << 16);
    result[4 * i + 1] = means[m + 2 * n + i];
    result[4 * i + 2] =
      largest[n * pose + i] | (quats[m + i] << 2) | (quats[m + n + i] << 12) | (quats[m + 2 * n + i] << 22);
    result[4 * i + 3] =
      scales[s + i] | (scales[s + n + i] << 8) | (scales[s + 2 * n + i] << 16) | (opacities[i] << 24);
  }
  return result;
}

/** Pack bone indices and weights: eight influences of 2 × 8 bits.
 * @param {SplatSet} set
 * @param {number} texels
 * @returns {Uint32Array} four numbers per Gaussian */
function skinTexels(set, texels) {
  const n = set.count;
  const { joints, weights } = set.arrays;
  const result = new Uint32Array(4 * texels);
  for (let k = 0; k < 8; k++) {
    for (let i = 0; i < n; i++) {
      result[4 * i + (k >> 1)] |= (joints[k * n + i] | (weights[k * n + i] << 8)) << (16 * (k & 1));
    }
  }
  return result;
}

/** Interleave colors: all coefficients of a Gaussian in a row, RGB and a spare byte.
 * @param {SplatSet} set
 * @param {number} coefficients
 * @param {number} texels
 * @returns {Uint8Array} */
function colorTexels(set, coefficients, texels) {
  const n = set.count;
  const { colors } = set.arrays;
  const result = new Uint8Array(4 * texels);
  for (let k = 0; k < coefficients; k++) {
    for (let c = 0; c < 3; c++) {
      const from = (3 * k + c) * n;
      for (let i = 0; i < n; i++) result[4 * (i * coefficients + k) + c] = colors[from + i];
    }
  }
  return result;
}
