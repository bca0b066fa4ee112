"use strict";
// Worker: sorts the Gaussians by depth, the farthest first, so that the page never waits for it.

/**
 * @typedef {{kind: "load", scene: number, means: Uint16Array, count: number, low: number[], step: number[],
 *   joints?: Uint8Array, weights?: Uint8Array}} LoadMessage
 * @typedef {{kind: "sort", scene: number, row: number[], left: number, right: number, weight: number,
 *   motions?: Float32Array, order: Uint32Array<ArrayBuffer>}} SortMessage
 * @typedef {{scene: number, order: Uint32Array<ArrayBuffer>, milliseconds: number}} SortedMessage
 */

const BUCKETS = 65536;
const counts = new Uint32Array(BUCKETS);
/** @type {LoadMessage | null} */
let loaded = null;
let depths = new Float32Array(0);
let keys = new Uint16Array(0);

self.onmessage = (/** @type {MessageEvent<LoadMessage | SortMessage>} */ event) => {
  const message = event.data;
  if (message.kind === "load") {
    loaded = message;
    depths = new Float32Array(message.count);
    keys = new Uint16Array(message.count);
    return;
  }
  const start = performance.now();
  if (loaded !== null && loaded.scene === message.scene) {
    if (message.motions) skinnedDepths(loaded, message, message.motions);
    else interpolatedDepths(loaded, message);
    sortFarthestFirst(message.order);
  }
  const answer = { scene: message.scene, order: message.order, milliseconds: performance.now() - start };
  self.postMessage(answer, { transfer: [message.order.buffer] });
};

/** Depths of Gaussians between two poses. @param {LoadMessage} scene @param {SortMessage} view */
function interpolatedDepths(scene, view) {
  const n = scene.count;
  const { means } = scene;
  const [a, b, c] = [0, 1, 2].map((axis) => view.row[axis] * scene.step[axis]);
  const p = 3 * n * view.left;
  const q = 3 * n * view.right;
  const w = view.weight;
  for (let i = 0; i < n; i++) {
    const left = a * means[p + i] + b * means[p + n + i] + c * means[p + 2 * n + i];
    const right = a * means[q + i] + b * means[q + n + i] + c * means[q + 2 * n + i];
    depths[i] = left + w * (right - left);
  }
}

/** Depths of Gaussians that follow bones. @param {LoadMessage} scene @param {SortMessage} view
 * @param {Float32Array} motions */
function skinnedDepths(scene, view, motions) {
  const n = scene.count;
  const { means } = scene;
  const joints = /** @type {Uint8Array} */ (scene.joints);
  const weights = /** @type {Uint8Array} */ (scene.weights);
  const bones = motions.length / 16;
  const planes = new Float32Array(4 * bones); // depth is linear in the canonical mean, for each bone
  for (let k = 0; k < bones; k++) {
    for (let row = 0; row < 3; row++) {
      for (let j = 0; j < 3; j++) {
        planes[4 * k + j] += view.row[row] * motions[16 * k + 3 * row + j] * scene.step[j];
        planes[4 * k + 3] += view.row[row] * motions[16 * k + 3 * row + j] * scene.low[j];
      }
      planes[4 * k + 3] += view.row[row] * motions[16 * k + 9 + row];
    }
  }
  for (let i = 0; i < n; i++) {
    const x = means[i];
    const y = means[n + i];
    const z = means[2 * n + i];
    let depth = 0;
    for (let m = i; m < 8 * n && weights[m] > 0; m += n) { // the strongest influence is the first
      const k = 4 * joints[m];
      depth += weights[m] * (planes[k] * x + planes[k + 1] * y + planes[k + 2] * z + planes[k + 3]);
    }
    depths[i] = depth;
  }
}

/** Counting sort of the depths, quantized to 16 bits. @param {Uint32Array} order */
function sortFarthestFirst(order) {
  const n = depths.length;
  let low = Infinity;
  let high = -Infinity;
  for (let i = 0; i < n; i++) {
    if (depths[i] < low) low = depths[i];
    if (depths[i] > high) high = depths[i];
  }
  const scale = (BUCKETS - 1) / Math.max(high - low, 1e-20);
  counts.fill(0);
  for (let i = 0; i < n; i++) {
    keys[i] = (high - depths[i]) * scale;
    counts[keys[i]]++;
  }
  for (let i = 0, start = 0; i < BUCKETS; i++) {
    const count = counts[i];
    counts[i] = start;
    start += count;
  }
  for (let i = 0; i < n; i++) order[counts[keys[i]]++] = i;
}
