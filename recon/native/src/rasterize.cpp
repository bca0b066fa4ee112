// CPU rasterizer: V images of N Gaussians, and the gradients of a loss of the images.
//
// An image is cut into strips W pixels wide and as high as the image; one vector is one row of a strip.
// 1. Project W Gaussians at a time; the cutoff at alpha = 1/255 bounds each by an exact ellipse. List the
//    strips it touches, with its exact rows in each.
// 2. Radix sort by depth; make the list of each strip, front to back.
// 3. Blend each strip front to back. Down the rows of a strip exp(-sigma) follows from the row above by
//    two multiplications, because sigma is quadratic in y.
// 4. The backward pass goes front to back as well: the contribution behind a Gaussian is the total minus
//    the part blended so far. Gradients go into one slot per (Gaussian, strip) pair, those of a Gaussian
//    one after the other, and are then summed: no atomics, and bit-identical results with any number of
//    threads.
//
// Images are planar, [V, C, H, W]; all inputs are contiguous float32.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "parallel.h"
#include "projection.h"
#include "simd.h"
#include "strip_lists.h"
#include "variant.h"

namespace fourdvd {
namespace {

constexpr float kAlphaMax = 0.999f, kTransmittanceMin = 1e-4f;
constexpr float kExponentRange = 110.0f;  // beyond this the recurrence could under- or overflow
constexpr int kRun = 32;                  // rows after which the recurrence is restarted
constexpr int kSlot = 10;                 // s, s dx, s dx2, s dy, s dx dy, s dy2, r, g, b, depth

// Rows of a strip that still have a pixel with transmittance, one bit per row.
class LiveRows {
 public:
  explicit LiveRows(int height) : words_((height + 63) / 64, ~uint64_t{0}) {}
  void finish(int row) { words_[row / 64] &= ~(uint64_t{1} << (row % 64)); }

  // Shrinks [y0, y1] to its first and last live row; false if there is none.
  bool trim(int& y0, int& y1) const {
    const int first = y0 / 64, last = y1 / 64;
    int top = -1, bottom = -1;
    for (int k = first; k <= last; ++k) {
      uint64_t bits = words_[k];
      if (k == first) bits &= ~uint64_t{0} << (y0 % 64);
      if (k == last) bits &= ~uint64_t{0} >> (63 - y1 % 64);
      if (bits == 0) continue;
      if (top < 0) top = 64 * k + __builtin_ctzll(bits);
      bottom = 64 * k + 63 - __builtin_clzll(bits);
    }
    y0 = top, y1 = bottom;
    return top >= 0;
  }

 private:
  std::vector<uint64_t> words_;
};

// Calls row(y, dy, falloff) for rows y0..y1 with falloff = opacity * exp(-sigma) of the W pixels.
template <class Row>
inline void for_rows(const Splat& p, vf dx, int y0, int y1, const Row& row) {
  const vf quadratic = splat(p.log2_opacity) - p.a * dx * dx, linear = p.b * dx;
  for (int run = y0; run <= y1; run += kRun) {
    const int end = std::min(y1, run + kRun - 1);
    const float dy = run + 0.5f - p.y, dy_end = end + 0.5f - p.y;
    const vf exponent = quadratic - dy * (linear + p.c * dy);
    const vf step = -(linear + p.c * (2.0f * dy + 1.0f));
    const vf exponent_end = quadratic - dy_end * (linear + p.c * dy_end);
    const vf limit = splat(-kExponentRange);
    if (any((minimum(exponent, exponent_end) < limit) | (step < limit) | (step > -limit))) {
      for (int y = run; y <= end; ++y) {
        const float d = y + 0.5f - p.y;
        row(y, d, exp2(quadratic - d * (linear + p.c * d)));
      }
      continue;
    }
    vf falloff = exp2(exponent), ratio = exp2(step);
    float d = dy;
    for (int y = run; y <= end; ++y, d += 1.0f) {
      row(y, d, falloff);
      falloff *= ratio;
      ratio *= p.second_ratio;
    }
  }
}

struct Scratch {
  std::vector<float> memory;
  float* rows(int planes, int height) {
    memory.resize(static_cast<size_t>(planes) * height * W);
    return memory.data();
  }
};
thread_local Scratch t_scratch;

inline vf initial_transmittance(int strip, int width) {
  return select(iota() + static_cast<float>(strip * W) < splat(static_cast<float>(width)), splat(1.0f),
                splat(-1.0f));  // a negative one marks a finished pixel
}

inline void copy_out(float* image, int strip, int width, int y, vf v) {
  const int n = std::min(W, width - strip * W);
  float* to = image + static_cast<size_t>(y) * width + strip * W;
  if (n == W) return store(to, v);
  for (int i = 0; i < n; ++i) to[i] = v[i];
}

inline vf copy_in(const float* image, int strip, int width, int y) {
  const int n = std::min(W, width - strip * W);
  const float* from = image + static_cast<size_t>(y) * width + strip * W;
  if (n == W) return load(from);
  vf v{};
  for (int i = 0; i < n; ++i) v[i] = from[i];
  return v;
}

constexpr size_t kAhead = 4;  // pairs between the request of their memory and its use

inline void prefetch_splat(const View& v, size_t k) {
  if (k < v.pairs.size()) __builtin_prefetch(&v.splats[v.pairs[k].splat]);
}

inline void prefetch_slot(const View& v, size_t k) {
  if (k < v.pairs.size()) __builtin_prefetch(&v.slots[static_cast<size_t>(v.pairs[k].slot) * kSlot], 1);
}

// Effect of one row of a splat on the pixels of that row.
struct Contribution {
  vf before, alpha, weight;  // transmittance in front of the splat, its alpha, and their product
  vi drawn, stopped;         // lanes it contributes to; lanes it would finish

  // Stores the transmittance behind it; true if no pixel of the row is left. Without a branch on
  // `stopped`: some pixel stops in one of ten rows, which the processor cannot predict.
  bool leave(float* transmittance) const {
    const vf left = before - weight, marked = negate(stopped, left);
    store(transmittance, marked);
    return all_negative(marked);
  }
};

inline Contribution contribution(vf before, vf falloff) {
  const vf alpha = minimum(falloff, splat(kAlphaMax));
  const vi hit = falloff >= splat(kAlphaMin);
  const vi drawn = hit & (before - before * alpha > splat(kTransmittanceMin));
  const vi stopped = hit & ~drawn & (before > splat(0.0f));
  return {before, alpha, keep(drawn, before * alpha), drawn, stopped};
}

void blend_strip(const State& s, const View& v, int strip, const float* background, float* rgb,
                 float* alpha, float* depth) {
  const int H = s.height;
  float* T = t_scratch.rows(5, H);
  float *R = T + W, *G = R + W, *B = G + W, *D = B + W;
  constexpr int kRow = 5 * W;  // row by row: addresses 4 KiB apart would make loads wait for stores
  std::fill(T, T + H * kRow, 0.0f);
  for (int y = 0; y < H; ++y) store(T + y * kRow, initial_transmittance(strip, s.width));
  LiveRows live(H);
  for (uint32_t k = v.strip_begin[strip]; k < v.strip_begin[strip + 1]; ++k) {
    prefetch_splat(v, k + kAhead);
    int y0 = v.pairs[k].y0, y1 = v.pairs[k].y1;
    if (!live.trim(y0, y1)) continue;
    const Splat p = v.splats[v.pairs[k].splat];
    const vf dx = iota() + (strip * W + 0.5f - p.x);
    for_rows(p, dx, y0, y1, [&](int y, float, vf falloff) {
      const int at = y * kRow;
      const Contribution it = contribution(load(T + at), falloff);
      store(R + at, load(R + at) + it.weight * p.r);
      store(G + at, load(G + at) + it.weight * p.g);
      store(B + at, load(B + at) + it.weight * p.b_);
      store(D + at, load(D + at) + it.weight * p.depth);
      if (it.leave(T + at)) live.finish(y);
    });
  }
  const size_t plane = static_cast<size_t>(H) * s.width;
  for (int y = 0; y < H; ++y) {
    const vf left = load(T + y * kRow), t = maximum(left, -left);
    copy_out(rgb, strip, s.width, y, load(R + y * kRow) + t * background[0]);
    copy_out(rgb + plane, strip, s.width, y, load(G + y * kRow) + t * background[1]);
    copy_out(rgb + 2 * plane, strip, s.width, y, load(B + y * kRow) + t * background[2]);
    copy_out(alpha, strip, s.width, y, 1.0f - t);
    copy_out(depth, strip, s.width, y, load(D + y * kRow));
  }
}

struct ImageGradients {  // planes of one view; null where the loss does not depend on them
  const float *rgb, *alpha, *depth;                 // images
  const float *d_rgb, *d_alpha, *d_depth;           // gradients by them
};

template <bool kWithDepth>
void blend_strip_gradient(const State& s, View& v, int strip, const ImageGradients& g) {
  const int H = s.height;
  const size_t plane = static_cast<size_t>(H) * s.width;
  float* T = t_scratch.rows(kWithDepth ? 6 : 5, H);
  float *rest = T + W, *gr = rest + W, *gg = gr + W, *gb = gg + W, *gd = gb + W;
  constexpr int kRow = (kWithDepth ? 6 : 5) * W;
  for (int y = 0; y < H; ++y) {
    const int at = y * kRow;
    const vf r = copy_in(g.d_rgb, strip, s.width, y), gr_ = copy_in(g.d_rgb + plane, strip, s.width, y),
             b = copy_in(g.d_rgb + 2 * plane, strip, s.width, y);
    store(T + at, initial_transmittance(strip, s.width));
    store(gr + at, r), store(gg + at, gr_), store(gb + at, b);
    // Gradient by all contributions together; the part behind a Gaussian is this minus the part before it.
    vf total = r * copy_in(g.rgb, strip, s.width, y) + gr_ * copy_in(g.rgb + plane, strip, s.width, y) +
               b * copy_in(g.rgb + 2 * plane, strip, s.width, y);
    if (g.d_alpha)
      total -= copy_in(g.d_alpha, strip, s.width, y) * (1.0f - copy_in(g.alpha, strip, s.width, y));
    if (kWithDepth) {
      const vf d = copy_in(g.d_depth, strip, s.width, y);
      store(gd + at, d);
      total += d * copy_in(g.depth, strip, s.width, y);
    }
    store(rest + at, total);
  }
  LiveRows live(H);
  for (uint32_t k = v.strip_begin[strip]; k < v.strip_begin[strip + 1]; ++k) {
    prefetch_splat(v, k + kAhead), prefetch_slot(v, k + kAhead);
    float* slot = &v.slots[static_cast<size_t>(v.pairs[k].slot) * kSlot];
    int y0 = v.pairs[k].y0, y1 = v.pairs[k].y1;
    if (!live.trim(y0, y1)) {
      std::fill(slot, slot + kSlot, 0.0f);
      continue;
    }
    const Splat p = v.splats[v.pairs[k].splat];
    const vf dx = iota() + (strip * W + 0.5f - p.x);
    vf s0{}, s1{}, s2{}, r{}, gsum{}, b{}, d{};
    for_rows(p, dx, y0, y1, [&](int y, float dy, vf falloff) {
      const int at = y * kRow;
      const Contribution it = contribution(load(T + at), falloff);
      const vf g_r = load(gr + at), g_g = load(gg + at), g_b = load(gb + at);
      vf value = g_r * p.r + g_g * p.g + g_b * p.b_;
      if (kWithDepth) {
        const vf g_d = load(gd + at);
        value += g_d * p.depth;
        d += it.weight * g_d;
      }
      const vf behind = load(rest + at) - it.weight * value;
      store(rest + at, behind);
      const vf by_alpha = it.before * value - behind / (1.0f - it.alpha);
      const vf by_exponent = keep(it.drawn & (falloff <= splat(kAlphaMax)), it.alpha * by_alpha);
      const vf moment = by_exponent * dy;
      s0 += by_exponent, s1 += moment, s2 += moment * dy;
      r += it.weight * g_r, gsum += it.weight * g_g, b += it.weight * g_b;
      if (it.leave(T + at)) live.finish(y);
    });
    const vf sx = s0 * dx, sums[8] = {s0, sx, sx * dx, s1, s1 * dx, s2, r, gsum};
    sum8(sums, slot);
    slot[8] = sum(b);
    slot[9] = kWithDepth ? sum(d) : 0.0f;
  }
}

struct Gradients {
  float *means, *quats, *scales, *opacities, *colors, *means2d;  // means2d may be null
};

// Sums the slots of W Gaussians in one view, and turns moments into derivatives.
inline vi collect(const State& s, const View& v, int g, float sums[kSlot][W]) {
  const Block& block = v.block[g / kBlock];
  const uint32_t* first = block.first + g % kBlock;
  const float* slot = v.slots.data() + static_cast<size_t>(block.slot + first[0]) * kSlot;
  vi seen{};
  for (int i = 0; i < W; ++i) {
    float total[kSlot] = {};
    seen[i] = -(first[i] < first[i + 1]);
    for (uint32_t k = first[i]; k < first[i + 1]; ++k, slot += kSlot)
      for (int j = 0; j < kSlot; ++j) total[j] += slot[j];
    for (int j = 0; j < kSlot; ++j) sums[j][i] = total[j];
  }
  return seen;
}

void gather_gradients(const State& s, const Gradients& out, int g) {
  vf d_mean[3] = {}, d_sigma[6] = {}, d_color[3] = {}, d_opacity{};
  for (int view = 0; view < s.views; ++view) {
    const View& v = s.view[view];
    alignas(64) float sums[kSlot][W];
    const vi seen = collect(s, v, g, sums);
    vf m[kSlot];
    for (int j = 0; j < kSlot; ++j) m[j] = load(sums[j]);
    vf by_x{}, by_y{};
    if (any(seen)) {
      vf sigma[6];
      Projected p = project_at(s, v.camera, g, sigma);
      p.inverse_z = keep(seen, p.inverse_z);  // an unseen Gaussian must not turn 0 times inf into NaN
      by_x = keep(seen, p.conic_a * m[1] + p.conic_b * m[3]);
      by_y = keep(seen, p.conic_b * m[1] + p.conic_c * m[3]);
      const ProjectionGradient by = {by_x, by_y, m[9], -0.5f * m[2], -m[4], -0.5f * m[5]};
      vf view_mean[3] = {}, view_sigma[6] = {};
      project_gradient(v.camera, p, sigma, by, view_mean, view_sigma);
      for (int k = 0; k < 3; ++k) d_mean[k] += keep(seen, view_mean[k]);
      for (int k = 0; k < 6; ++k) d_sigma[k] += keep(seen, view_sigma[k]);
      d_opacity += m[0];
    }
    for (int k = 0; k < 3; ++k) {
      if (s.colors_by_view)
        scatter(out.colors + (static_cast<size_t>(view) * s.count) * 3 + k, g, s.count, 3, m[6 + k]);
      else
        d_color[k] += m[6 + k];
    }
    if (out.means2d) {
      scatter(out.means2d + static_cast<size_t>(view) * s.count * 2, g, s.count, 2, by_x);
      scatter(out.means2d + static_cast<size_t>(view) * s.count * 2 + 1, g, s.count, 2, by_y);
    }
  }
  vf q[4], scale[3], dq[4], ds[3];
  for (int k = 0; k < 4; ++k) q[k] = gather(s.quats + k, g, s.count, 4);
  for (int k = 0; k < 3; ++k) scale[k] = gather(s.scales + k, g, s.count, 3);
  covariance_gradient(q, scale, d_sigma, dq, ds);
  const vf opacity = gather(s.opacities, g, s.count, 1);
  for (int k = 0; k < 3; ++k) scatter(out.means + k, g, s.count, 3, d_mean[k]);
  for (int k = 0; k < 4; ++k) scatter(out.quats + k, g, s.count, 4, dq[k]);
  for (int k = 0; k < 3; ++k) scatter(out.scales + k, g, s.count, 3, ds[k]);
  scatter(out.opacities, g, s.count, 1, d_opacity / maximum(opacity, splat(kAlphaMin)));
  if (!s.colors_by_view)
    for (int k = 0; k < 3; ++k) scatter(out.colors + k, g, s.count, 3, d_color[k]);
}

}  // namespace
}  // namespace fourdvd

extern "C" {

// A workspace keeps its memory between calls; forward fills it, backward reads it.
void* NAME(rasterizer_create)() { return new fourdvd::State(); }
void NAME(rasterizer_destroy)(void* state) { delete static_cast<fourdvd::State*>(state); }

void NAME(rasterize)(void* state, int views, int count, int height, int width, const float* means,
                     const float* quats, const float* scales, const float* opacities,
                     const float* colors, int colors_by_view, const float* viewmats, const float* Ks,
                     const float* backgrounds, float* rgb, float* alpha, float* depth) {
  using namespace fourdvd;
  State& s = *static_cast<State*>(state);
  s.views = views, s.count = count, s.height = height, s.width = width;
  s.padded = (count + W - 1) / W * W, s.strips = (width + W - 1) / W;
  s.colors_by_view = colors_by_view != 0;
  s.quats = quats, s.scales = scales, s.opacities = opacities, s.colors = colors;
  s.mean.resize(3 * static_cast<size_t>(s.padded)), s.sigma.resize(6 * static_cast<size_t>(s.padded));
  s.log_cut.assign(s.padded, -1.0f);
  if (static_cast<int>(s.view.size()) < views) s.view.resize(views);
  prepare(s, means);
  for (int i = 0; i < views; ++i) {
    View& v = s.view[i];
    v.camera = make_camera(viewmats + 16 * i, Ks + 9 * i, height, width);
    v.splats.resize(count);
    v.depth.resize(count);
    v.block.resize((count + kBlock - 1) / kBlock);
  }
  list_views(s);
  const size_t plane = static_cast<size_t>(height) * width;
  parallel_for(views * s.strips, [&](int task) {
    const int i = task / s.strips;
    blend_strip(s, s.view[i], task % s.strips, backgrounds + 3 * i, rgb + 3 * plane * i,
                alpha + plane * i, depth + plane * i);
  });
}

// The inputs of `rasterize` must still be at the same addresses. d_alpha and d_depth may be null.
void NAME(rasterize_gradient)(void* state, const float* rgb, const float* alpha, const float* depth,
                              const float* d_rgb, const float* d_alpha, const float* d_depth,
                              float* d_means, float* d_quats, float* d_scales, float* d_opacities,
                              float* d_colors, float* d_means2d) {
  using namespace fourdvd;
  State& s = *static_cast<State*>(state);
  for (int i = 0; i < s.views; ++i) s.view[i].slots.resize(s.view[i].pairs.size() * kSlot);
  const size_t plane = static_cast<size_t>(s.height) * s.width;
  parallel_for(s.views * s.strips, [&](int task) {
    const int i = task / s.strips;
    const ImageGradients g = {rgb + 3 * plane * i, alpha + plane * i, depth + plane * i,
                              d_rgb + 3 * plane * i, d_alpha ? d_alpha + plane * i : nullptr,
                              d_depth ? d_depth + plane * i : nullptr};
    if (d_depth)
      blend_strip_gradient<true>(s, s.view[i], task % s.strips, g);
    else
      blend_strip_gradient<false>(s, s.view[i], task % s.strips, g);
  });
  const Gradients out = {d_means, d_quats, d_scales, d_opacities, d_colors, d_means2d};
  parallel_for((s.count + kBlock - 1) / kBlock, [&](int block) {
    for (int g = block * kBlock; g < std::min(s.count, (block + 1) * kBlock); g += W)
      gather_gradients(s, out, g);
  });
}

}  // extern "C"
