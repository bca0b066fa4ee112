#version 300 es
// Draws the inside of a Gaussian, premultiplied.
precision highp float;
in vec2 offset;
flat in vec4 color;
out vec4 result;
void main() {
  float alpha = min(0.999, color.a * exp(-0.5 * dot(offset, offset)));
  if (alpha < 1.0 / 255.0) discard;
  result = vec4(color.rgb * alpha, alpha);
}
