"use strict";
// Draws Gaussians, the farthest first, with the shaders in splats.vert and splats.frag.

/**
 * @typedef {{rotation: number[], translation: number[], focal: number[], center: number[]}} View
 * world-to-camera with OpenCV axes, rotation by rows; focal lengths and principal point in pixels
 */

const TEXTURE_WIDTH = 2048;
const NEAR = 0.01; // units of the scene, as in recon/rasterizers/interface.py

class Renderer {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    const gl = canvas.getContext("webgl2", { alpha: false, antialias: false, depth: false, powerPreference: "high-performance" });
    if (gl === null) {
      throw new Error("This browser or device does not offer WebGL 2, which the player needs. Please try another browser, or switch on hardware acceleration.");
    }
    this.canvas = canvas;
    this.gl = gl;
    this.count = 0;
    /** @type {WebGLProgram | null} */
    this.program = null;
    /** @type {Record<string, WebGLUniformLocation | null>} */
    this.uniforms = {};
    /** @type {Record<string, WebGLTexture>} */
    this.textures = {};
    this.variant = ""; // constants of the compiled program
    /** @type {SplatSet | null} */
    this.set = null;
    this.poses = [-1, -1];
    this.order = gl.createBuffer();
    gl.bindVertexArray(gl.createVertexArray());
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA); // premultiplied
  }

  /** Upload a set of Gaussians. @param {Scene} scene @param {SplatSet} set */
  setScene(scene, set) {
    const { gl } = this;
    const coefficients = (scene.header.sh_degree + 1) ** 2;
    const skinned = scene.header.kind === "bones";
    const needed = `${scene.header.sh_degree} ${skinned}`;
    if (this.program === null || needed !== this.variant) {
      this.variant = needed;
      this.program = this.compiled({ TEXTURE_WIDTH: `${TEXTURE_WIDTH}u`, DEGREE: `${scene.header.sh_degree}`, COEFFICIENTS: `${coefficients}u`, SKINNED: skinned ? "1" : "0" });
    }
    this.set = set;
    this.count = set.count;
    this.poses = [-1, -1];
    const rows = Math.ceil((set.count * coefficients) / TEXTURE_WIDTH);
    if (rows > gl.getParameter(gl.MAX_TEXTURE_SIZE)) throw new Error("This scene is too large for the graphics unit of this device.");
    this.texture("colors", gl.RGBA8UI, TEXTURE_WIDTH, rows, gl.RGBA_INTEGER, gl.UNSIGNED_BYTE, colorTexels(set, coefficients, TEXTURE_WIDTH * rows));
    this.poseTexture("skin", skinned ? skinTexels(set, this.poseTexelCount) : new Uint32Array(4 * this.poseTexelCount));
    gl.useProgram(this.program);
    const { means, scales, sh0, shN } = set.ranges;
    gl.uniform1f(this.uniforms.near, NEAR * scene.header.unit);
    gl.uniform3fv(this.uniforms.meanLow, means[0]);
    gl.uniform3fv(this.uniforms.meanStep, means[0].map((low, i) => (means[1][i] - low) / 65535));
    for (const [name, [[low], [high]]] of Object.entries({ scaleRange: scales, sh0Range: sh0, shNRange: shN })) {
      gl.uniform2f(this.uniforms[name], low, (high - low) / 255);
    }
    this.setOrder(Uint32Array.from({ length: set.count }, (_, i) => i));
  }

  /** Set the order of drawing, the farthest first. @param {Uint32Array} order */
  setOrder(order) {
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.order);
    gl.bufferData(gl.ARRAY_BUFFER, order, gl.DYNAMIC_DRAW);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribIPointer(0, 1, gl.UNSIGNED_INT, 0, 0);
    gl.vertexAttribDivisor(0, 1);
  }

  /** Set the motion: motions of bones, or two poses and the weight of the second.
   * @param {number} left @param {number} right @param {number} weight @param {Float32Array} [motions] */
  setMotion(left, right, weight, motions) {
    const { gl } = this;
    if (this.set === null) return;
    if (motions) this.texture("motions", gl.RGBA32F, 4, motions.length / 16, gl.RGBA, gl.FLOAT, motions);
    if (left !== right && (this.poses[1] === left || this.poses[0] === right)) { // playing on: keep one pose
      this.poses.reverse();
      [this.textures.leftPose, this.textures.rightPose] = [this.textures.rightPose, this.textures.leftPose];
    }
    for (const [slot, pose] of [left, right].entries()) {
      if (this.poses[slot] === pose) continue;
      this.poseTexture(slot ? "rightPose" : "leftPose", poseTexels(this.set, pose, this.poseTexelCount));
      this.poses[slot] = pose;
    }
    gl.useProgram(this.program);
    gl.uniform1f(this.uniforms.weight, weight);
  }

  /** Draw. @param {View} view @param {number[]} background sRGB in [0, 1] */
  draw(view, background) {
    const { gl, canvas, uniforms } = this;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(background[0], background[1], background[2], 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    if (this.count === 0) return;
    gl.useProgram(this.program);
    gl.uniformMatrix3fv(uniforms.viewRotation, true, view.rotation);
    gl.uniform3fv(uniforms.viewTranslation, view.translation);
    gl.uniform2fv(uniforms.focal, view.focal);
    gl.uniform2fv(uniforms.center, view.center);
    gl.uniform2f(uniforms.size, canvas.width, canvas.height);
    for (const [unit, name] of ["leftPose", "rightPose", "skin", "colors", "motions"].entries()) {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, this.textures[name] ?? null);
      gl.uniform1i(uniforms[name], unit);
    }
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, this.count);
  }

  get poseTexelCount() {
    return Math.ceil(this.count / TEXTURE_WIDTH) * TEXTURE_WIDTH;
  }

  /** @param {string} name @param {Uint32Array} texels */
  poseTexture(name, texels) {
    const { gl } = this;
    this.texture(name, gl.RGBA32UI, TEXTURE_WIDTH, this.poseTexelCount / TEXTURE_WIDTH, gl.RGBA_INTEGER, gl.UNSIGNED_INT, texels);
  }

  /** @param {string} name @param {number} internal @param {number} width @param {number} height
   * @param {number} format @param {number} type @param {ArrayBufferView} data */
  texture(name, internal, width, height, format, type, data) {
    const { gl } = this;
    this.textures[name] ??= gl.createTexture();
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, this.textures[name]);
    gl.texImage2D(gl.TEXTURE_2D, 0, internal, width, height, 0, format, type, data);
    for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, filter, gl.NEAREST);
  }

  /** Compile the shaders. @param {Record<string, string>} constants @returns {WebGLProgram} */
  compiled(constants) {
    const { gl } = this;
    const lines = Object.entries(constants).map(([name, value]) => `#define ${name} ${value}`);
    const program = gl.createProgram();
    for (const [type, name] of /** @type {[number, string][]} */ ([[gl.VERTEX_SHADER, "vertex"], [gl.FRAGMENT_SHADER, "fragment"]])) {
      const shader = gl.createShader(type);
      if (shader === null) throw new Error("WebGL was switched off by the browser. Please reload the page.");
      const source = document.getElementById(name)?.textContent ?? "";
      gl.shaderSource(shader, source.replace("\n", `\n${lines.join("\n")}\n`));
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(`The graphics unit refused a shader: ${gl.getShaderInfoLog(shader)}`);
      gl.attachShader(program, shader);
    }
    gl.bindAttribLocation(program, 0, "index");
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(`The graphics unit refused the shaders: ${gl.getProgramInfoLog(program)}`);
    const count = gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS);
    this.uniforms = {};
    for (let i = 0; i < count; i++) {
      const name = gl.getActiveUniform(program, i)?.name ?? "";
      this.uniforms[name] = gl.getUniformLocation(program, name);
    }
    return program;
  }
}
