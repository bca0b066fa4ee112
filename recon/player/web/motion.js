"use strict";
// Motion between the fitted times, as recon/deformation/poses.py and bones.py define it.

/** Locate a time among ascending times; outside it is clamped.
 * @param {number[]} times
 * @param {number} time
 * @returns {{left: number, weight: number}} time = (1 − weight) times[left] + weight times[left + 1] */
function bracket(times, time) {
  let left = 0;
  while (left + 1 < times.length && times[left + 1] <= time) left++;
  if (left === times.length - 1 || time <= times[left]) return { left, weight: 0 };
  return { left, weight: (time - times[left]) / (times[left + 1] - times[left]) };
}

/** Motions of the bones at a time.
 * @param {SplatSet} set
 * @param {number[]} times
 * @param {number} time
 * @returns {Float32Array} 16 numbers per bone: rotation matrix by rows (9), offset (3), quaternion wxyz (4) */
function boneMotions(set, times, time) {
  const { centers, translations, rotations } = set.arrays;
  const bones = centers.length / 3;
  const { left, weight } = bracket(times, time);
  const right = weight > 0 ? left + 1 : left;
  const result = new Float32Array(16 * bones);
  const first = [1, 0, 0, 0];
  for (let k = 0; k < bones; k++) {
    const q = mixedQuat(rotations, 4 * (left * bones + k), 4 * (right * bones + k), weight);
    if (k === 0) for (let j = 0; j < 4; j++) first[j] = q[j];
    if (dot(q, first) < 0) for (let j = 0; j < 4; j++) q[j] = -q[j]; // so that they can be averaged
    const R = rotationMatrix(q);
    for (let row = 0; row < 3; row++) {
      const a = translations[3 * (left * bones + k) + row];
      const b = translations[3 * (right * bones + k) + row];
      let offset = centers[3 * k + row] + a + weight * (b - a);
      for (let j = 0; j < 3; j++) {
        result[16 * k + 3 * row + j] = R[3 * row + j];
        offset -= R[3 * row + j] * centers[3 * k + j];
      }
      result[16 * k + 9 + row] = offset;
    }
    result.set(q, 16 * k + 12);
  }
  return result;
}

/** Interpolate two quaternions of an array along the shorter arc, normalized.
 * @param {ArrayLike<number>} values @param {number} a @param {number} b @param {number} weight */
function mixedQuat(values, a, b, weight) {
  const p = normalized([values[a], values[a + 1], values[a + 2], values[a + 3]]);
  if (weight === 0) return p;
  const q = normalized([values[b], values[b + 1], values[b + 2], values[b + 3]]);
  const sign = dot(p, q) < 0 ? -1 : 1;
  return normalized(p.map((x, j) => x + weight * (sign * q[j] - x)));
}

/** @param {number[]} p @param {number[]} q */
function dot(p, q) {
  return p.reduce((sum, x, i) => sum + x * q[i], 0);
}

/** @param {number[]} v */
function normalized(v) {
  const length = Math.hypot(...v) || 1;
  return v.map((x) => x / length);
}

/** Rotation matrix of a unit quaternion wxyz, by rows. @param {number[]} q */
function rotationMatrix([w, x, y, z]) {
  return [
    1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
    2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
    2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
  ];
}

/** Time of the scene at a position of playback.
 * @param {number[]} times fitted times; frames can come unevenly
 * @param {number} position in frames of mean duration; the last frame is held beyond T − 1 */
function timeAt(times, position) {
  const last = times.length - 1;
  const share = Math.min(1, Math.max(0, position / Math.max(1, last)));
  return times[0] + share * (times[last] - times[0]);
}

/** Position of playback after some time.
 * @param {number} elapsed in frames, from 0
 * @param {number} frames
 * @param {boolean} pingPong whether it plays backwards after the last frame
 * @returns {number} in frames, in [0, frames) */
function playbackPosition(elapsed, frames, pingPong) {
  if (frames < 2) return 0;
  if (!pingPong) return elapsed % frames;
  const period = 2 * (frames - 1);
  const along = elapsed % period;
  return along < frames - 1 ? along : period - along;
}
