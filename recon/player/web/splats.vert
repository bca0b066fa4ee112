#version 300 es
// Projects Gaussians like recon/rasterizers/reference.py (EWA), four corners of each. Motion and
// colors are evaluated here, at any time between the fitted ones. Defined by renderer.js, after the
// first line: TEXTURE_WIDTH, DEGREE (of the harmonics), COEFFICIENTS, SKINNED.
precision highp float;
precision highp int;
precision highp usampler2D;
uniform usampler2D leftPose, rightPose, skin, colors;
uniform sampler2D motions;
uniform float weight;
uniform vec3 meanLow, meanStep;
uniform vec2 scaleRange, sh0Range, shNRange; // low and step of a level
uniform mat3 viewRotation;
uniform vec3 viewTranslation;
uniform vec2 focal, center, size;
uniform float near;
in uint index;
out vec2 offset;
flat out vec4 color;

const float EPS_2D = 0.3, ALPHA_MIN = 1.0 / 255.0;
const vec4 NOWHERE = vec4(0.0, 0.0, 2.0, 1.0);

uvec4 texel(usampler2D source, uint i) { return texelFetch(source, ivec2(i % TEXTURE_WIDTH, i / TEXTURE_WIDTH), 0); }
vec3 meanOf(uvec4 p) { return meanLow + meanStep * vec3(p.x & 0xffffu, p.x >> 16, p.y & 0xffffu); }
vec3 scalesOf(uvec4 p) { return scaleRange.x + scaleRange.y * vec3(p.w & 255u, (p.w >> 8) & 255u, (p.w >> 16) & 255u); }

vec4 quatOf(uvec4 p) { // wxyz, from its three smaller components
  vec3 three = (vec3((p.z >> 2) & 1023u, (p.z >> 12) & 1023u, p.z >> 22) / 511.5 - 1.0) * 0.70710678;
  float largest = sqrt(max(0.0, 1.0 - dot(three, three)));
  uint at = p.z & 3u;
  if (at == 0u) return vec4(largest, three);
  if (at == 1u) return vec4(three.z, largest, three.xy);
  if (at == 2u) return vec4(three.yz, largest, three.x);
  return vec4(three, largest);
}

vec4 product(vec4 p, vec4 q) {
  return vec4(p.x * q.x - dot(p.yzw, q.yzw), p.x * q.yzw + q.x * p.yzw + cross(p.yzw, q.yzw));
}

mat3 matrixOf(vec4 q) {
  float w = q.x, x = q.y, y = q.z, z = q.w;
  return mat3(
    1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y),
    2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x),
    2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y));
}

void follow(uint i, inout vec3 mean, inout vec4 quat) { // linear blend skinning
  uvec4 influences = texel(skin, i);
  vec4 sum[4] = vec4[4](vec4(0.0), vec4(0.0), vec4(0.0), vec4(0.0));
  for (int k = 0; k < 8; k++) {
    uint pair = influences[k >> 1] >> (16 * (k & 1));
    float w = float((pair >> 8) & 255u) / 255.0;
    if (w == 0.0) break;
    int joint = int(pair & 255u);
    for (int part = 0; part < 4; part++) sum[part] += w * texelFetch(motions, ivec2(part, joint), 0);
  }
  vec3 offset = vec3(sum[2].yzw);
  mean = vec3(dot(sum[0].xyz, mean), dot(vec3(sum[0].w, sum[1].xy), mean), dot(vec3(sum[1].zw, sum[2].x), mean)) + offset;
  quat = product(normalize(sum[3]), quat);
}

vec3 coefficient(uint at) { return shNRange.x + shNRange.y * vec3(texel(colors, at).rgb); }

vec3 colorOf(uint i, vec3 d) {
  uint at = i * COEFFICIENTS;
  vec3 sum = 0.5 + 0.28209479177387814 * (sh0Range.x + sh0Range.y * vec3(texel(colors, at).rgb));
#if DEGREE >= 1
  float x = d.x, y = d.y, z = d.z;
  sum += 0.4886025119029199 * (z * coefficient(at + 2u) - y * coefficient(at + 1u) - x * coefficient(at + 3u));
#endif
#if DEGREE >= 2
  sum += 1.0925484305920792 * (x * y * coefficient(at + 4u) - y * z * coefficient(at + 5u) - x * z * coefficient(at + 7u))
    + 0.31539156525252005 * (3.0 * z * z - 1.0) * coefficient(at + 6u)
    + 0.5462742152960396 * (x * x - y * y) * coefficient(at + 8u);
#endif
#if DEGREE >= 3
  sum += -0.5900435899266435 * (y * (3.0 * x * x - y * y) * coefficient(at + 9u) + x * (x * x - 3.0 * y * y) * coefficient(at + 15u))
    + 2.890611442640554 * x * y * z * coefficient(at + 10u)
    - 0.4570457994644658 * (5.0 * z * z - 1.0) * (y * coefficient(at + 11u) + x * coefficient(at + 13u))
    + 0.3731763325901154 * z * (5.0 * z * z - 3.0) * coefficient(at + 12u)
    + 1.445305721320277 * z * (x * x - y * y) * coefficient(at + 14u);
#endif
  return max(sum, 0.0);
}

void main() {
  gl_Position = NOWHERE;
  uvec4 pose = texel(leftPose, index);
  vec3 mean = meanOf(pose), scales = scalesOf(pose);
  vec4 quat = quatOf(pose);
#if SKINNED
  follow(index, mean, quat);
#else
  if (weight > 0.0) {
    uvec4 right = texel(rightPose, index);
    vec4 next = quatOf(right);
    mean = mix(mean, meanOf(right), weight);
    scales = mix(scales, scalesOf(right), weight);
    quat = normalize(mix(quat, dot(quat, next) < 0.0 ? -next : next, weight));
  }
#endif
  float opacity = float(pose.w >> 24) / 255.0;
  vec3 p = viewRotation * mean + viewTranslation;
  if (p.z <= near || opacity <= ALPHA_MIN) return;
  vec2 slope = p.xy / p.z;
  vec2 margin = 0.15 * size / focal;
  vec2 held = clamp(slope, -(center / focal + margin), (size - center) / focal + margin);
  mat3 axes = viewRotation * matrixOf(quat);
  vec3 sigma = exp(scales);
  vec3 rowX = focal.x / p.z * sigma * vec3(axes[0].x - held.x * axes[0].z, axes[1].x - held.x * axes[1].z, axes[2].x - held.x * axes[2].z);
  vec3 rowY = focal.y / p.z * sigma * vec3(axes[0].y - held.y * axes[0].z, axes[1].y - held.y * axes[1].z, axes[2].y - held.y * axes[2].z);
  float a = dot(rowX, rowX) + EPS_2D, b = dot(rowX, rowY), c = dot(rowY, rowY) + EPS_2D;
  float middle = 0.5 * (a + c), spread = length(vec2(0.5 * (a - c), b));
  float major = middle + spread, minor = max(middle - spread, 0.5 * EPS_2D);
  vec2 along = spread < 1e-6 ? vec2(1.0, 0.0) : a > c ? normalize(vec2(major - c, b)) : normalize(vec2(b, major - a));
  float reach = sqrt(2.0 * log(opacity * 255.0)); // beyond, alpha is below ALPHA_MIN
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2.0 - 1.0;
  offset = corner * reach;
  vec2 pixel = focal * slope + center + offset.x * sqrt(major) * along + offset.y * sqrt(minor) * vec2(-along.y, along.x);
  vec3 eye = -viewTranslation * viewRotation; // the camera's position: the transposed rotation
  color = vec4(colorOf(index, normalize(mean - eye)), opacity);
  gl_Position = vec4((2.0 * pixel / size - 1.0) * vec2(1.0, -1.0), 0.0, 1.0);
}
