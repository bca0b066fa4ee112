// Renderer of small mesh images that match Cycles without light bounces; see recon/native/mesh.py.
//
// 1. One orthographic depth map for each of K directions of the sun's disc, shared by all views.
// 2. For each view a z-buffer with s x s samples per pixel (mesh_visibility.h); translucent surfaces go
//    into a list of layers beside it.
// 3. Row by row: shade the visible samples (mesh_shading.h), blend the layers over them, filter both axes.
// A view is a task and a map is a task, so results are the same with any number of threads.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "mesh_crossings.h"
#include "mesh_shading.h"
#include "mesh_visibility.h"
#include "parallel.h"
#include "variant.h"

namespace fourdvd {
namespace {

constexpr float kSolidFrom = 0.998f, kVisibleFrom = 0.002f;  // alpha; half a step of 8 bits
constexpr float kSameNearness = 1e-6f;  // relative rounding error of equal depths
constexpr float kHighest = 1.0f / kNearestDepth, kNoLimit = 3e38f;  // of nearness

struct Filter {  // pixel i uses samples i s .. i s + taps - 1; the grid begins `margin` samples before pixel 0
  int32_t subsamples, margin, taps;
  const float* weights;  // [taps], their sum is 1
};

struct Layer {  // a sample of a translucent surface
  uint32_t place;
  int32_t triangle;
  float nearness, alpha;
};

struct Crossings {  // as `Crossings` in recon/native/mesh.py
  int32_t *pixel, *triangle;
  float* depth;
  int8_t* winding;
  uint8_t* shown;
  float* normal;   // [3]
  uint8_t* color;  // [3]
};

struct Scratch {
  std::vector<Corner> corners;
  std::vector<Outline> outlines;
  std::vector<Layer> layers;
  std::vector<Crossing> crossings, sorted;
  std::vector<uint32_t> ends;
  std::vector<v4> row, image;
  DepthBuffer buffer;
};
thread_local Scratch t_scratch;

inline Point point_at(const Outline& t, int32_t triangle, int x, int y) {
  Point p{triangle, {}, t.back};
  weights_at(t, x, y, p.weight);
  return p;
}

inline Point point_of(const Crossing& c) {  // on the triangle's front
  return {c.triangle, {c.weight[0], c.weight[1], c.weight[2]}, false};
}

// Draws the z-buffer of one view (in perspective) or map. `take(triangle, alpha, place, nearness)` is asked
// about samples of surfaces that are not opaque; true draws them.
template <class Take>
void draw(const Mesh& mesh, Scratch& s, bool perspective, float highest, const Take& take) {
  s.outlines.resize(mesh.triangle_count);
  for (int32_t m = 0; m < mesh.triangle_count; ++m) {
    const Corner* corner[3];
    for (int i = 0; i < 3; ++i) corner[i] = &s.corners[mesh.triangles[3 * static_cast<size_t>(m) + i]];
    const Outline& t = s.outlines[m] = outline_of(corner, perspective, s.buffer.height, s.buffer.width);
    if (t.y0 > t.y1 || (perspective && !is_shown(mesh, m, t.back))) continue;
    if (is_solid(mesh, m)) {
      draw_solid(t, m, highest, s.buffer);
      continue;
    }
    for_covered(t, s.buffer.stride, highest, [&](size_t first, int x, int y, vi inside, vf nearness) {
      for (int i = 0; i < W; ++i) {
        const size_t place = first + i;
        if (!inside[i] || !(nearness[i] > s.buffer.nearness[place])) continue;
        const float alpha = alpha_at(mesh, point_at(t, m, x + i, y));
        if (!take(m, alpha, place, nearness[i])) continue;
        s.buffer.nearness[place] = nearness[i];
        s.buffer.triangle[place] = m;
      }
    });
  }
}

// Transforms vertices by a 3 x 4 matrix whose third row gives Z, or the nearness of an orthographic map.
void place_corners(const Mesh& mesh, const double* T, bool perspective, std::vector<Corner>& corners) {
  corners.resize(mesh.vertex_count);
  for (int32_t n = 0; n < mesh.vertex_count; ++n) {
    const float* v = mesh.vertices + 3 * static_cast<size_t>(n);
    float out[3];
    for (int i = 0; i < 3; ++i)
      out[i] = static_cast<float>(T[4 * i] * v[0] + T[4 * i + 1] * v[1] + T[4 * i + 2] * v[2] + T[4 * i + 3]);
    corners[n] = perspective ? Corner{out[0], out[1], out[2], 0.0f} : Corner{out[0], out[1], 1.0f, out[2]};
  }
}

void draw_shadow_map(const Mesh& mesh, const float* T, int map, int size, float* nearness) {
  Scratch& s = t_scratch;
  double matrix[12];
  std::copy(T, T + 12, matrix);
  place_corners(mesh, matrix, false, s.corners);
  s.buffer.clear(size, size);
  draw(mesh, s, false, kNoLimit, [map](int32_t triangle, float alpha, size_t texel, float) {
    return alpha > noise(static_cast<uint32_t>(texel), triangle, map);
  });
  for (int y = 0; y < size; ++y)
    std::copy_n(&s.buffer.nearness[static_cast<size_t>(y) * s.buffer.stride], size,
                nearness + static_cast<size_t>(y) * size);
}

// The sun direction that lights a sample: an additive recurrence in the plane, so that neighbors and the
// same sample of neighboring pixels differ.
inline int sun_of(int x, int y, int count) {
  const uint32_t h = static_cast<uint32_t>(x) * 3242174889u + static_cast<uint32_t>(y) * 2447445414u;
  return static_cast<int>((static_cast<uint64_t>(h) * static_cast<uint32_t>(count)) >> 32);
}

// Premultiplied radiance and alpha of the samples of row y; `first` and `last` bound those not empty.
void shade_row(const Mesh& mesh, const ShadowMaps& maps, const Light& light, Scratch& s, int y,
               std::vector<Layer>::const_iterator& layer, int& first, int& last) {
  const DepthBuffer& buffer = s.buffer;
  first = buffer.width, last = -1;
  for (int x = 0; x < buffer.width; ++x) {
    const size_t place = static_cast<size_t>(y) * buffer.stride + x;
    const auto shade = [&](int32_t triangle) {
      const Point p = point_at(s.outlines[triangle], triangle, x, y);
      return radiance_at(mesh, maps, light, p, sun_of(x, y, maps.count));
    };
    v4 value{};
    if (buffer.triangle[place] >= 0) value = shade(buffer.triangle[place]);
    for (; layer != s.layers.end() && layer->place == place; ++layer)
      if (layer->nearness > buffer.nearness[place])
        value += layer->alpha * (shade(layer->triangle) - value);
    s.row[x] = value;
    if (value[3] > 0.0f) first = std::min(first, x), last = x;
  }
}

// Adds a row of samples to the rows of pixels whose filter covers it.
void filter_row(const Filter& f, const std::vector<v4>& row, int y, int first, int last, int height,
                int width, std::vector<v4>& image) {
  const auto pixel_from = [&f](int place) {
    return std::max(0, (place - f.taps + f.subsamples) / f.subsamples);
  };
  const int left = pixel_from(first), right = std::min(width - 1, last / f.subsamples);
  const int top = pixel_from(y), bottom = std::min(height - 1, y / f.subsamples);
  for (int x = left; x <= right; ++x) {
    v4 sum{};
    for (int k = 0; k < f.taps; ++k) sum += f.weights[k] * row[x * f.subsamples + k];
    for (int j = top; j <= bottom; ++j)
      image[static_cast<size_t>(j) * width + x] += f.weights[y - j * f.subsamples] * sum;
  }
}

inline float clip(float v) { return std::min(std::max(0.0f, v), 1.0f); }  // NaN becomes 0
inline uint8_t to_byte(float v) { return static_cast<uint8_t>(clip(v) * 255.0f + 0.5f); }

inline float encode(float linear) {
  const float v = clip(linear);
  return v <= 0.0031308f ? 12.92f * v : 1.055f * std::pow(v, 1.0f / 2.4f) - 0.055f;
}

void write_image(const std::vector<v4>& image, uint8_t* rgba) {
  for (const v4& pixel : image) {
    const uint8_t alpha = to_byte(pixel[3]);
    for (int k = 0; k < 3; ++k) rgba[k] = alpha == 0 ? 0 : to_byte(encode(pixel[k] / pixel[3]));
    rgba[3] = alpha;
    rgba += 4;
  }
}

// Sorts layers by sample, the farthest first. A sample on the edge between two triangles belongs to both;
// one of them is dropped, or the surface would absorb light twice.
void sort_layers(const Mesh& mesh, std::vector<Layer>& layers) {
  std::sort(layers.begin(), layers.end(), [](const Layer& a, const Layer& b) {
    if (a.place != b.place) return a.place < b.place;
    return a.nearness != b.nearness ? a.nearness < b.nearness : a.triangle > b.triangle;
  });
  const auto same = [&mesh](const Layer& a, const Layer& b) {
    return a.place == b.place && mesh.surface[a.triangle] == mesh.surface[b.triangle] &&
           b.nearness - a.nearness < kSameNearness * b.nearness;
  };
  layers.erase(std::unique(layers.begin(), layers.end(), same), layers.end());
}

void render_view(const Mesh& mesh, const ShadowMaps& maps, const Light& light, const Filter& filter,
                 const double* T, int height, int width, uint8_t* rgba) {
  Scratch& s = t_scratch;
  place_corners(mesh, T, true, s.corners);
  const int around = 2 * filter.margin;
  s.buffer.clear(height * filter.subsamples + around, width * filter.subsamples + around);
  s.layers.clear();
  draw(mesh, s, true, kHighest, [&s](int32_t triangle, float alpha, size_t place, float nearness) {
    if (alpha > kVisibleFrom && alpha < kSolidFrom)
      s.layers.push_back({static_cast<uint32_t>(place), triangle, nearness, alpha});
    return alpha >= kSolidFrom;
  });
  sort_layers(mesh, s.layers);
  s.row.resize(s.buffer.width);
  s.image.assign(static_cast<size_t>(height) * width, v4{});
  std::vector<Layer>::const_iterator layer = s.layers.begin();
  for (int y = 0; y < s.buffer.height; ++y) {
    int first, last;
    shade_row(mesh, maps, light, s, y, layer, first, last);
    if (first <= last) filter_row(filter, s.row, y, first, last, height, width, s.image);
  }
  write_image(s.image, rgba);
}

void see_view(const Mesh& mesh, const double* T, int height, int width, int32_t* triangle, float* weights,
              float* depth, uint8_t* back) {
  Scratch& s = t_scratch;
  place_corners(mesh, T, true, s.corners);
  s.buffer.clear(height, width);
  draw(mesh, s, true, kHighest, [](int32_t, float alpha, size_t, float) { return alpha >= 0.5f; });
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      const size_t place = static_cast<size_t>(y) * s.buffer.stride + x;
      const size_t pixel = static_cast<size_t>(y) * width + x;
      triangle[pixel] = s.buffer.triangle[place];
      if (triangle[pixel] < 0) continue;
      const Outline& t = s.outlines[triangle[pixel]];
      weights_at(t, x, y, weights + 3 * pixel);
      depth[pixel] = 1.0f / s.buffer.nearness[place];
      back[pixel] = t.back;
    }
}

// Collects the crossings of all rays with surfaces whose alpha is at least 0.5, sorted.
void find_crossings(const Mesh& mesh, const double* T, int height, int width, Scratch& s) {
  place_corners(mesh, T, true, s.corners);
  s.crossings.clear();
  for (int32_t m = 0; m < mesh.triangle_count; ++m) {
    const Corner* corner[3];
    for (int i = 0; i < 3; ++i) corner[i] = &s.corners[mesh.triangles[3 * static_cast<size_t>(m) + i]];
    const Outline t = outline_of(corner, true, height, width, kCandidates);
    const bool solid = is_solid(mesh, m);
    for_covered(t, width, kNoLimit, [&](size_t first, int x, int y, vi inside, vf) {
      for (int i = 0; i < W; ++i) {
        Crossing c{static_cast<uint32_t>(first + i), m, 0.0, {}, 0};
        if (!inside[i] || !cross(corner, x + i, y, c)) continue;
        if (solid || alpha_at(mesh, point_of(c)) >= 0.5f) s.crossings.push_back(c);
      }
    });
  }
  sort_crossings(static_cast<size_t>(height) * width, s.crossings, s.ends, s.sorted);
}

// Writes the crossings of all pixels, row by row and the nearest first, and returns how many there are; those
// beyond `capacity` are only counted.
int64_t trace_view(const Mesh& mesh, const ShadowMaps& maps, const Light& light, const double* T, int height,
                   int width, int64_t capacity, const Crossings& out) {
  Scratch& s = t_scratch;
  find_crossings(mesh, T, height, width, s);
  const size_t written = std::min<size_t>(s.sorted.size(), static_cast<size_t>(capacity));
  for (size_t n = 0; n < written; ++n) {
    const Crossing& c = s.sorted[n];
    const int x = static_cast<int>(c.place) % width, y = static_cast<int>(c.place) / width;
    const Point p = point_of(c);
    const Geometry g = geometry_of(mesh, p);
    const v4 radiance = radiance_at(mesh, maps, light, p, sun_of(x, y, maps.count));
    out.pixel[n] = static_cast<int32_t>(c.place);
    out.triangle[n] = c.triangle;
    out.depth[n] = static_cast<float>(c.depth);
    out.winding[n] = c.winding;
    out.shown[n] = is_shown(mesh, c.triangle, c.winding < 0);
    for (int k = 0; k < 3; ++k) {
      out.normal[3 * n + k] = g.normal[k];
      out.color[3 * n + k] = to_byte(encode(radiance[k]));
    }
  }
  return static_cast<int64_t>(s.sorted.size());
}

}  // namespace
}  // namespace fourdvd

extern "C" {

// Renders depth maps [K][S][S] of the mesh with the matrices [K][3][4].
void NAME(mesh_shadow_maps)(const fourdvd::Mesh* mesh, int maps, int size, const float* T_map_world,
                            float* nearness) {
  fourdvd::parallel_for(maps, [&](int k) {
    fourdvd::draw_shadow_map(*mesh, T_map_world + 12 * k, k, size,
                             nearness + static_cast<size_t>(k) * size * size);
  });
}

// Renders images [V][H][W][4], sRGB with straight alpha, with matrices [V][3][4] from world to sample grid.
void NAME(mesh_images)(const fourdvd::Mesh* mesh, const fourdvd::ShadowMaps* maps,
                       const fourdvd::Light* light, const fourdvd::Filter* filter, int views, int height,
                       int width, const double* T_grid_world, uint8_t* images) {
  fourdvd::parallel_for(views, [&](int i) {
    fourdvd::render_view(*mesh, *maps, *light, *filter, T_grid_world + 12 * i, height, width,
                         images + static_cast<size_t>(i) * height * width * 4);
  });
}

// Finds the nearest triangle at pixel centers; where there is none, only `triangle` is written, as -1.
void NAME(mesh_visibility)(const fourdvd::Mesh* mesh, int height, int width, const double* T_grid_world,
                           int32_t* triangle, float* weights, float* depth, uint8_t* back) {
  fourdvd::see_view(*mesh, T_grid_world, height, width, triangle, weights, depth, back);
}

// Finds all surfaces along the rays through pixel centers; returns their number, which can exceed `capacity`.
int64_t NAME(mesh_crossings)(const fourdvd::Mesh* mesh, const fourdvd::ShadowMaps* maps,
                             const fourdvd::Light* light, int height, int width, const double* T_image_world,
                             int64_t capacity, const fourdvd::Crossings* crossings) {
  return fourdvd::trace_view(*mesh, *maps, *light, T_image_world, height, width, capacity, *crossings);
}

}  // extern "C"
