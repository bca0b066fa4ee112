"use strict";
// A camera that turns around a point and starts at the camera of the input video. World: +Z up.

const MAX_PITCH = (89.5 * Math.PI) / 180;
const EASE_SECONDS = 0.07;

/** @typedef {{target: number[], yaw: number, pitch: number, roll: number, distance: number, shift: number}} Pose
 * `shift` is the share of the input camera's principal-point offset that is applied */

class OrbitCamera {
  /** @param {InputCamera} input @param {number[]} focus */
  constructor(input, focus) {
    this.input = input;
    this.focus = focus;
    this.home = poseOfCamera(input, focus);
    this.now = copied(this.home);
    this.goal = copied(this.home);
  }

  /** Go to the input camera. @param {boolean} [atOnce] */
  reset(atOnce) {
    this.goal = copied(this.home);
    this.goal.yaw += 2 * Math.PI * Math.round((this.now.yaw - this.home.yaw) / (2 * Math.PI)); // the short way
    if (atOnce) this.now = copied(this.goal);
  }

  /** Turn around the target. @param {number} yaw @param {number} pitch radians */
  orbit(yaw, pitch) {
    this.goal.yaw += yaw;
    this.goal.pitch = Math.min(MAX_PITCH, Math.max(-MAX_PITCH, this.goal.pitch + pitch));
    this.goal.roll = 0;
  }

  /** Move the target in the image plane. @param {number} x @param {number} y pixels @param {number} focal */
  pan(x, y, focal) {
    const { right, up } = basis(this.goal);
    const scale = this.goal.distance / focal;
    this.goal.target = this.goal.target.map((value, i) => value - scale * (x * right[i] - y * up[i]));
  }

  /** Change the distance by a factor. @param {number} factor */
  zoom(factor) {
    const { distance } = this.home;
    this.goal.distance = Math.min(20 * distance, Math.max(0.05 * distance, this.goal.distance * factor));
  }

  /** Ease towards the goal. @param {number} seconds @param {boolean} atOnce @returns {boolean} whether it moved */
  step(seconds, atOnce) {
    const share = atOnce ? 1 : 1 - Math.exp(-seconds / EASE_SECONDS);
    let moved = 0;
    const mixed = (/** @type {number} */ a, /** @type {number} */ b) => {
      moved = Math.max(moved, Math.abs(b - a));
      return Math.abs(b - a) < 1e-5 ? b : a + share * (b - a);
    };
    const { now, goal } = this;
    this.now = {
      target: now.target.map((value, i) => mixed(value, goal.target[i])),
      yaw: mixed(now.yaw, goal.yaw),
      pitch: mixed(now.pitch, goal.pitch),
      roll: mixed(now.roll, goal.roll),
      distance: mixed(now.distance, goal.distance),
      shift: mixed(now.shift, goal.shift),
    };
    return moved > 0;
  }

  /** Focal length on a canvas that contains the whole input image. @param {number} width @param {number} height */
  focal(width, height) {
    return this.input.fl_x * Math.min(width / this.input.w, height / this.input.h);
  }

  /** @param {number} width @param {number} height of the canvas in pixels @returns {View} */
  view(width, height) {
    const { input, now } = this;
    const { right, up, back } = basis(now);
    const rotation = [...right, ...up.map((x) => -x), ...back.map((x) => -x)];
    const position = now.target.map((x, i) => x + now.distance * back[i]);
    const translation = [0, 3, 6].map((row) => -rotation.slice(row, row + 3).reduce((sum, r, i) => sum + r * position[i], 0));
    const scale = Math.min(width / input.w, height / input.h);
    return {
      rotation,
      translation,
      focal: [input.fl_x * scale, input.fl_y * scale],
      center: [width / 2 + now.shift * scale * (input.cx - input.w / 2), height / 2 + now.shift * scale * (input.cy - input.h / 2)],
    };
  }
}

/** @param {Pose} pose @returns {Pose} */
function copied(pose) {
  return { ...pose, target: [...pose.target] };
}

/** Axes of the camera in the world. @param {{yaw: number, pitch: number, roll: number}} pose */
function basis({ yaw, pitch, roll }) {
  const back = [Math.sin(yaw) * Math.cos(pitch), -Math.cos(yaw) * Math.cos(pitch), Math.sin(pitch)];
  const level = [Math.cos(yaw), Math.sin(yaw), 0];
  const upright = [back[1] * level[2] - back[2] * level[1], back[2] * level[0] - back[0] * level[2], back[0] * level[1] - back[1] * level[0]];
  const [c, s] = [Math.cos(roll), Math.sin(roll)];
  return { right: level.map((x, i) => c * x + s * upright[i]), up: upright.map((x, i) => c * x - s * level[i]), back };
}

/** @param {InputCamera} camera @param {number[]} focus @returns {Pose} */
function poseOfCamera(camera, focus) {
  const column = (/** @type {number} */ j) => [0, 1, 2].map((i) => camera.transform_matrix[i][j]);
  const [right, back, position] = [column(0), column(2), column(3)];
  const straight = Math.abs(back[2]) > 0.99999; // from above or below, the yaw is that of the image
  const yaw = straight ? Math.atan2(right[1], right[0]) : Math.atan2(back[0], -back[1]);
  const pitch = Math.asin(Math.min(1, Math.max(-1, back[2])));
  const level = basis({ yaw, pitch, roll: 0 });
  const dot = (/** @type {number[]} */ a, /** @type {number[]} */ b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const roll = Math.atan2(dot(right, level.up), dot(right, level.right));
  const depth = dot(position.map((x, i) => x - focus[i]), back);
  const distance = depth > 1e-3 ? depth : 1;
  return { target: position.map((x, i) => x - distance * back[i]), yaw, pitch, roll, distance, shift: 1 };
}
