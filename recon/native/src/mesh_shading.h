// Shading of a mesh: material and textures, a sun with shadow maps, and ambient light.
//
//   radiance = base (E / pi max(0, n l) visible + ambient (0.8 + 0.2 n_z)) + emission
//
// and base + emission for a mesh without normals, whose colors are lit already.
// n is the interpolated normal of the visible side, l points to the sun. Light is linear; textures are
// interpolated in sRGB as stored and decoded afterwards, as in Cycles.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace fourdvd {
namespace {

typedef float v4 __attribute__((vector_size(16)));

struct Surface {  // as `SURFACE` in recon/native/mesh.py
  float base[4], emission[3];
  float alpha_cutoff;  // below 0: alpha is not thresholded
  int32_t base_texture, base_uv, emission_texture, emission_uv, alpha_texture;  // -1: none
  int32_t uses_colors, unlit, double_sided;
};

struct Texture {
  const uint8_t* texels;  // sRGB, straight alpha
  int32_t height, width;
};

struct Mesh {
  const float* vertices;
  const int32_t* triangles;
  const float *normals, *uv, *colors;
  const int32_t* surface;
  const Surface* surfaces;
  const Texture* textures;
  int32_t vertex_count, triangle_count;
};

struct ShadowMaps {  // of an extended sun: one map per direction of its disc
  const float* T_map_world;  // [K][3][4]: texels across, texels down, nearness in texels
  const float* directions;   // [K][3], to the sun
  const float* nearness;     // [K][S][S]
  int32_t count, size;
};

struct Light {
  float ambient, sun;
};

struct Point {  // a point of a triangle
  int32_t triangle;
  float weight[3];
  bool back;
};

inline v4 make4(float x, float y, float z, float w) { return v4{x, y, z, w}; }
inline float dot(const float* a, const float* b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

// Decodes sRGB in [0, 255] to linear light: a table of the integers, linearly interpolated.
struct Decoder {
  float table[257];
  Decoder() {
    for (int i = 0; i < 257; ++i) {
      const float s = i / 255.0f;
      table[i] = s <= 0.04045f ? s / 12.92f : std::pow((s + 0.055f) / 1.055f, 2.4f);
    }
  }
  float operator()(float v) const {
    const int i = static_cast<int>(v);
    return table[i] + (v - i) * (table[i + 1] - table[i]);
  }
};

// Built at the first call, not when the library is loaded: the processor may lack the instructions.
inline float decode(float v) {
  static const Decoder decoder;
  return decoder(v);
}

struct Texel {  // a coordinate between two texels
  int first, second;
  float share;  // weight of the second
};

inline Texel locate(float coordinate, int size) {
  float turn = coordinate - std::floor(coordinate);
  if (!(turn >= 0.0f && turn < 1.0f)) turn = 0.0f;  // NaN, or rounded up
  const float place = turn * size - 0.5f;
  const int below = static_cast<int>(std::floor(place));
  return {below < 0 ? size - 1 : below, below + 1 >= size ? 0 : below + 1, place - below};
}

// Bilinear color and alpha, in [0, 255], of a repeating texture with its first row on top.
inline v4 sample(const Texture& texture, const float uv[2]) {
  const Texel x = locate(uv[0], texture.width), y = locate(1.0f - uv[1], texture.height);
  const auto at = [&](int row, int column) {
    const uint8_t* p = texture.texels + 4 * (static_cast<size_t>(row) * texture.width + column);
    return make4(p[0], p[1], p[2], p[3]);
  };
  const v4 top = at(y.first, x.first) * (1.0f - x.share) + at(y.first, x.second) * x.share;
  const v4 bottom = at(y.second, x.first) * (1.0f - x.share) + at(y.second, x.second) * x.share;
  return top * (1.0f - y.share) + bottom * y.share;
}

// Interpolates a corner attribute [M][3][size] at a point.
inline float interpolate(const float* values, int size, const Point& p, int k) {
  const float* v = values + static_cast<size_t>(p.triangle) * 3 * size + k;
  return p.weight[0] * v[0] + p.weight[1] * v[size] + p.weight[2] * v[2 * size];
}

inline v4 sample_at(const Mesh& mesh, const Point& p, int texture, int set) {
  const float* set_uv = mesh.uv + static_cast<size_t>(set) * mesh.triangle_count * 6;
  const float uv[2] = {interpolate(set_uv, 2, p, 0), interpolate(set_uv, 2, p, 1)};
  return sample(mesh.textures[texture], uv);
}

inline const Surface& surface_of(const Mesh& mesh, int32_t triangle) {
  return mesh.surfaces[mesh.surface[triangle]];
}

// Whether a triangle is opaque everywhere.
inline bool is_solid(const Mesh& mesh, int32_t triangle) {
  const Surface& s = surface_of(mesh, triangle);
  if (s.base[3] < 1.0f || s.alpha_texture >= 0) return false;
  const float* corner = mesh.colors + static_cast<size_t>(triangle) * 12;
  return !s.uses_colors || (corner[3] >= 1.0f && corner[7] >= 1.0f && corner[11] >= 1.0f);
}

// Whether views show a triangle from this side. Its back still casts a shadow.
inline bool is_shown(const Mesh& mesh, int32_t triangle, bool back) {
  return !back || surface_of(mesh, triangle).double_sided;
}

// Opacity of a point; 0 or 1 for surfaces with a cutoff.
inline float alpha_at(const Mesh& mesh, const Point& p) {
  const Surface& s = surface_of(mesh, p.triangle);
  float alpha = s.base[3];
  if (s.alpha_texture >= 0) alpha *= sample_at(mesh, p, s.alpha_texture, s.base_uv)[3] / 255.0f;
  if (s.uses_colors) alpha *= interpolate(mesh.colors, 4, p, 3);
  if (s.alpha_cutoff >= 0.0f) return alpha >= s.alpha_cutoff ? 1.0f : 0.0f;
  return alpha;
}

// Pseudo-random number in [0, 1) per place and triangle, evenly distributed over the members of a series.
inline float noise(uint32_t place, uint32_t triangle, uint32_t member) {
  uint32_t h = place * 0x9e3779b1u ^ (triangle * 0x85ebca77u + 0x165667b1u);
  h = (h ^ h >> 15) * 0x2c1b3c6du;
  h = (h ^ h >> 12) * 0x297a2d39u;
  h = (h ^ h >> 15) + member * 0x9e3779b9u;  // steps of the golden ratio
  return static_cast<float>(h >> 8) * 0x1p-24f;
}

struct Geometry {
  float position[3], flat[3], normal[3];  // both normals on the visible side
};

inline void normalize(float v[3], float sign) {
  const float scale = sign / std::max(std::sqrt(dot(v, v)), 1e-20f);
  for (int k = 0; k < 3; ++k) v[k] *= scale;
}

inline Geometry geometry_of(const Mesh& mesh, const Point& p) {
  Geometry g;
  const int32_t* corner = mesh.triangles + 3 * static_cast<size_t>(p.triangle);
  const float* v[3];
  for (int i = 0; i < 3; ++i) v[i] = mesh.vertices + 3 * static_cast<size_t>(corner[i]);
  float e[3], f[3];
  for (int k = 0; k < 3; ++k) {
    g.position[k] = p.weight[0] * v[0][k] + p.weight[1] * v[1][k] + p.weight[2] * v[2][k];
    g.normal[k] = interpolate(mesh.normals, 3, p, k);
    e[k] = v[1][k] - v[0][k], f[k] = v[2][k] - v[0][k];
  }
  for (int k = 0; k < 3; ++k) g.flat[k] = e[(k + 1) % 3] * f[(k + 2) % 3] - e[(k + 2) % 3] * f[(k + 1) % 3];
  normalize(g.flat, p.back ? -1.0f : 1.0f);
  normalize(g.normal, p.back ? -1.0f : 1.0f);
  return g;
}

constexpr float kBias = 1.5f;      // texels
constexpr float kSteepest = 32.0f;  // slope in texels per texel; steeper receivers get almost no sun

// Whether a point of a plane is lit by the sun. A map stores the nearest surface at texel centers, so the
// receiver's plane is evaluated there: no slope-dependent bias is needed.
inline bool sees_sun(const ShadowMaps& maps, int k, const float position[3], const float flat[3]) {
  const float* T = maps.T_map_world + 12 * k;
  const float x = dot(T, position) + T[3], y = dot(T + 4, position) + T[7];
  if (!(x >= 0 && y >= 0 && x < maps.size && y < maps.size)) return true;
  const int column = static_cast<int>(x), row = static_cast<int>(y);
  const float across = dot(T, flat), down = dot(T + 4, flat), towards = dot(T + 8, flat);
  const float limit = kSteepest * std::fabs(towards);
  const auto clamp = [limit](float v) { return std::min(std::max(v, -limit), limit); };
  const float rise = clamp(across) * (column + 0.5f - x) + clamp(down) * (row + 0.5f - y);
  const float nearness = dot(T + 8, position) + T[11] - rise / (towards == 0.0f ? 1.0f : towards);
  return maps.nearness[(static_cast<size_t>(k) * maps.size + row) * maps.size + column] <= nearness + kBias;
}

// Moves a point from its flat triangle outwards to the curved surface that the corner normals describe;
// without it, triangles are visible along the shadow terminator. Source: Hanika, "Hacking the
// Shadow Terminator", Ray Tracing Gems II (2021), chapter 4.
inline void lift(const Mesh& mesh, const Point& p, Geometry& g) {
  const int32_t* corner = mesh.triangles + 3 * static_cast<size_t>(p.triangle);
  const float* normals = mesh.normals + 9 * static_cast<size_t>(p.triangle);
  float offset[3] = {};
  const float side = p.back ? -1.0f : 1.0f;
  for (int i = 0; i < 3; ++i) {
    const float *v = mesh.vertices + 3 * static_cast<size_t>(corner[i]), *n = normals + 3 * i;
    const float d[3] = {v[0] - g.position[0], v[1] - g.position[1], v[2] - g.position[2]};
    const float height = std::max(0.0f, side * dot(d, n)) * p.weight[i];
    for (int k = 0; k < 3; ++k) offset[k] += height * side * n[k];
  }
  for (int k = 0; k < 3; ++k) g.position[k] += offset[k];
}

// Linear radiance of a point lit by the k-th sun direction; the last component is 1.
inline v4 radiance_at(const Mesh& mesh, const ShadowMaps& maps, const Light& light, const Point& p, int k) {
  const Surface& s = surface_of(mesh, p.triangle);
  v4 emission = make4(s.emission[0], s.emission[1], s.emission[2], 1.0f);
  if (s.emission_texture >= 0) {
    const v4 texel = sample_at(mesh, p, s.emission_texture, s.emission_uv);
    emission *= make4(decode(texel[0]), decode(texel[1]), decode(texel[2]), 1.0f);
  }
  if (s.unlit) return emission;
  v4 base = make4(s.base[0], s.base[1], s.base[2], 0.0f);
  if (s.base_texture >= 0) {
    const v4 texel = sample_at(mesh, p, s.base_texture, s.base_uv);
    base *= make4(decode(texel[0]), decode(texel[1]), decode(texel[2]), 0.0f);
  }
  if (s.uses_colors)
    base *= make4(interpolate(mesh.colors, 4, p, 0), interpolate(mesh.colors, 4, p, 1),
                  interpolate(mesh.colors, 4, p, 2), 0.0f);
  if (mesh.normals == nullptr) return emission + base;
  Geometry g = geometry_of(mesh, p);
  float strength = light.ambient * (0.8f + 0.2f * g.normal[2]);
  const float facing = dot(g.normal, maps.directions + 3 * k);
  if (facing > 0.0f) {
    lift(mesh, p, g);
    if (sees_sun(maps, k, g.position, g.flat)) strength += light.sun * facing * 0.31830989f;
  }
  return emission + base * strength;
}

}  // namespace
}  // namespace fourdvd
