// Image loss of a fit and its gradient in one pass: L1 + structural dissimilarity + L1 of alpha.
//
//   loss = sum over V images of [ l1 |x - y|  +  ssim (1 - SSIM(x, y))  +  alpha |A - A*| ] / (V H W)
//
// x is the rendered image, y the target over the same background, both H x W x 3 (color terms also
// divided by 3). SSIM: Gaussian window of 11 taps, sigma 1.5, zeros outside the image, constants for a
// range of 1 (Wang et al. 2004). It is evaluated inside a box only; outside it its loss counts as 0.
// Images are planar float32 [V, 3, H, W]; targets are interleaved bytes [H, W, 4], straight alpha.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "parallel.h"
#include "simd.h"
#include "variant.h"

namespace {

constexpr int kRadius = 5;
constexpr float kWindow[kRadius + 1] = {  // exp(-i^2 / 4.5) normalized, from the center outwards
    0.26601172f, 0.21300554f, 0.10936069f, 0.03600077f, 0.00759876f, 0.00102838f};
constexpr float kC1 = 0.01f * 0.01f, kC2 = 0.03f * 0.03f;

struct Box {
  int x0, y0, x1, y1;  // half open, in pixels
};

// The latest rows of an image with a margin of kRadius zeros on each side; old rows are overwritten.
class Rows {
 public:
  void resize(int width) {
    stride_ = width + 2 * kRadius;
    data_.assign(static_cast<size_t>(kKept) * stride_, 0.0f);
  }
  float* operator[](int y) { return data_.data() + static_cast<size_t>(y & (kKept - 1)) * stride_ + kRadius; }

 private:
  static constexpr int kKept = 16;  // a power of two, at least 2 kRadius + 1
  int stride_ = 0;
  std::vector<float> data_;
};

// Blurs a row along x, for columns [0, width).
inline void blur_across(const float* __restrict f, float* __restrict t, int width) {
  for (int x = 0; x < width; ++x) {
    float v = kWindow[0] * f[x];
    for (int k = 1; k <= kRadius; ++k) v += kWindow[k] * (f[x - k] + f[x + k]);
    t[x] = v;
  }
}

// Blurs row y down the columns [0, width).
inline void blur_down(Rows& rows, int y, float* __restrict t, int width) {
  const float* near[2 * kRadius + 1];
  for (int k = -kRadius; k <= kRadius; ++k) near[k + kRadius] = rows[y + k];
  for (int x = 0; x < width; ++x) {
    float v = kWindow[0] * near[kRadius][x];
    for (int k = 1; k <= kRadius; ++k) v += kWindow[k] * (near[kRadius - k][x] + near[kRadius + k][x]);
    t[x] = v;
  }
}

// What one channel needs; everything is a few rows, so that it stays in the cache.
struct Workspace {
  Rows x, y, blurred[4], derivatives[3];  // blurred: x, y, x^2 + y^2, xy across
  std::vector<float> product, down[4], by[3], down_by[3];

  void resize(int width) {
    for (Rows* rows : {&x, &y}) rows->resize(width);
    for (Rows& rows : blurred) rows.resize(width);
    for (Rows& rows : derivatives) rows.resize(width);
    product.assign(width + 2 * kRadius, 0.0f);
    for (auto& row : down) row.assign(width, 0.0f);
    for (auto& row : by) row.assign(width + 2 * kRadius, 0.0f);
    for (auto& row : down_by) row.assign(width, 0.0f);
  }
};
thread_local Workspace t_workspace;

// Computes SSIM in columns [begin, end) of a row, and its derivatives by the blurred x, x^2 and xy;
// returns the sum of 1 - SSIM.
inline float ssim_row(Workspace& w, int begin, int end) {
  const float *mx = w.down[0].data(), *my = w.down[1].data(), *squares = w.down[2].data(),
              *xy = w.down[3].data();
  float *__restrict gm = w.by[0].data() + kRadius, *__restrict gs = w.by[1].data() + kRadius,
        *__restrict gc = w.by[2].data() + kRadius;
  float* __restrict each = w.product.data();
  for (int x = begin; x < end; ++x) {
    const float mean2 = mx[x] * mx[x] + my[x] * my[x] + kC1, mean_product = 2 * mx[x] * my[x] + kC1;
    const float variance = squares[x] - mean2 + kC1 + kC2;
    const float covariance = 2 * (xy[x] - mx[x] * my[x]) + kC2;
    const float inverse = 1.0f / (mean2 * variance);
    const float ssim = mean_product * covariance * inverse;
    each[x] = 1.0f - ssim;
    // The derivative by the mean of x includes those through variance and covariance.
    gs[x] = -ssim * mean2 * inverse;
    gc[x] = 2 * mean_product * inverse;
    gm[x] = 2 * my[x] * (covariance - mean_product) * inverse -
            2 * mx[x] * ssim * inverse * (variance - mean2);
  }
  fourdvd::vf total{};
  for (int x = begin; x < end; x += fourdvd::W) total += fourdvd::load_some(each + x, end - x, 0.0f);
  return fourdvd::sum(total);
}

// Adds weight * (1 - SSIM) over the box to the loss, and its gradient to `gradient`.
//
// One sweep down the rows: a row is read, and blurred across; kRadius rows later the rows around it are
// blurred down, and the derivatives of SSIM are blurred across; again kRadius rows later they are
// blurred down, which gives the gradient, because the window is symmetric.
double dissimilarity(const float* image, const float* target, int image_height, int image_width, Box inner,
                     float weight, float* gradient) {
  Workspace& w = t_workspace;
  // Work on the box and the kRadius pixels around it, because its loss depends on those too.
  const Box box = {std::max(0, inner.x0 - kRadius), std::max(0, inner.y0 - kRadius),
                   std::min(image_width, inner.x1 + kRadius), std::min(image_height, inner.y1 + kRadius)};
  const int height = box.y1 - box.y0, width = box.x1 - box.x0;
  w.resize(width);
  const int left = std::max(-kRadius, -box.x0), right = std::min(width + kRadius, image_width - box.x0);
  const int inner_begin = inner.y0 - box.y0, inner_end = inner.y1 - box.y0;
  float* product = w.product.data() + kRadius;
  double loss = 0;
  for (int y = -kRadius; y < height + 2 * kRadius; ++y) {
    if (y < inner_end + kRadius) {
      float *fx = w.x[y], *fy = w.y[y];
      if (y + box.y0 >= 0 && y + box.y0 < image_height) {
        const size_t at = static_cast<size_t>(y + box.y0) * image_width + box.x0;
        std::copy(image + at + left, image + at + right, fx + left);
        std::copy(target + at + left, target + at + right, fy + left);
      } else {
        std::fill(fx - kRadius, fx + width + kRadius, 0.0f);
        std::fill(fy - kRadius, fy + width + kRadius, 0.0f);
      }
      blur_across(fx, w.blurred[0][y], width);
      blur_across(fy, w.blurred[1][y], width);
      for (int x = -kRadius; x < width + kRadius; ++x) product[x] = fx[x] * fx[x] + fy[x] * fy[x];
      blur_across(product, w.blurred[2][y], width);
      for (int x = -kRadius; x < width + kRadius; ++x) product[x] = fx[x] * fy[x];
      blur_across(product, w.blurred[3][y], width);
    }
    const int middle = y - kRadius;
    if (middle >= inner_begin && middle < inner_end) {
      for (int i = 0; i < 4; ++i) blur_down(w.blurred[i], middle, w.down[i].data(), width);
      loss += ssim_row(w, inner.x0 - box.x0, inner.x1 - box.x0);
      for (int i = 0; i < 3; ++i)
        blur_across(w.by[i].data() + kRadius, w.derivatives[i][middle], width);
    } else {
      for (Rows& rows : w.derivatives) std::fill(rows[middle], rows[middle] + width, 0.0f);
    }
    const int done = middle - kRadius;
    if (done < 0) continue;
    for (int i = 0; i < 3; ++i) blur_down(w.derivatives[i], done, w.down_by[i].data(), width);
    const float *fx = w.x[done], *fy = w.y[done], *ga = w.down_by[0].data(), *gb = w.down_by[1].data(),
                *gc = w.down_by[2].data();
    float* __restrict g = gradient + static_cast<size_t>(done + box.y0) * image_width + box.x0;
    for (int x = 0; x < width; ++x) g[x] -= weight * (ga[x] + 2 * fx[x] * gb[x] + fy[x] * gc[x]);
  }
  return weight * loss;
}

struct Sums {
  double absolute[4] = {}, square = 0;  // of the differences of r, g, b, alpha; squares of r, g, b
};

// RGBA of W pixels, little-endian: red is lowest. Fewer are 0 where the row ends.
inline fourdvd::vi load_pixels(const uint8_t* pixels, int n) {
  fourdvd::vi v{};
  std::memcpy(&v, pixels, 4 * static_cast<size_t>(std::min(fourdvd::W, n)));
  return v;
}

inline fourdvd::vf channel(fourdvd::vi pixels, int c) {
  return __builtin_convertvector((pixels >> (8 * c)) & 255, fourdvd::vf) * (1.0f / 255.0f);
}

// weight * sign(v)
inline fourdvd::vf signed_weight(fourdvd::vf v, float weight) {
  using namespace fourdvd;
  return keep(v > splat(0.0f), splat(weight)) - keep(v < splat(0.0f), splat(weight));
}

// L1 of one row: composites the target over the background into `planes` of r, g and b (as the images,
// `plane` apart), and writes the gradients by r, g, b and alpha.
inline void l1_row(const uint8_t* target, const float* background, int width, size_t plane,
                   const float* rgb, const float* alpha, float color_weight, float alpha_weight,
                   float* planes, float* d_rgb, float* d_alpha, Sums& sums) {
  using namespace fourdvd;
  vf absolute[4] = {}, square{};
  for (int x = 0; x < width; x += W) {
    const int n = width - x;
    const vi pixels = load_pixels(target + 4 * static_cast<size_t>(x), n);
    const vf opacity = channel(pixels, 3), difference = load_some(alpha + x, n, 0.0f) - opacity;
    store_some(d_alpha + x, n, signed_weight(difference, alpha_weight));
    absolute[3] += maximum(difference, -difference);
    for (int c = 0; c < 3; ++c) {
      const size_t at = c * plane + x;
      const vf y = channel(pixels, c) * opacity + background[c] * (1.0f - opacity);
      const vf v = load_some(rgb + at, n, background[c]) - y;  // beyond the end both are background
      store_some(planes + at, n, y);
      store_some(d_rgb + at, n, signed_weight(v, color_weight));
      absolute[c] += maximum(v, -v);
      square += v * v;
    }
  }
  for (int c = 0; c < 4; ++c) sums.absolute[c] += sum(absolute[c]);
  sums.square += sum(square);
}

constexpr int kRowsOfTask = 32;

}  // namespace

extern "C" {

// targets: V pointers to bytes [H, W, 4]. boxes: [V, 4] x0 y0 x1 y1 for SSIM. weights: [V] of each image.
// Writes the gradients (overwriting them), the V losses, already divided by V H W, and the V mean squared
// color differences.
void NAME(image_loss)(int views, int height, int width, const float* rgb, const float* alpha,
                      const uint8_t* const* targets, const float* backgrounds, const int* boxes,
                      const float* weights, float l1, float ssim, float alpha_weight, float* d_rgb,
                      float* d_alpha, double* losses, double* squares) {
  const size_t plane = static_cast<size_t>(height) * width;
  const int strips = (height + kRowsOfTask - 1) / kRowsOfTask;
  auto scale = [&](int view) { return weights[view] / (static_cast<float>(views) * plane); };
  const std::unique_ptr<float[]> composites(new float[3 * plane * views]);
  std::vector<Sums> parts(static_cast<size_t>(views) * strips);
  fourdvd::parallel_for(views * strips, [&](int task) {
    const int view = task / strips, begin = task % strips * kRowsOfTask;
    for (int y = begin; y < std::min(height, begin + kRowsOfTask); ++y) {
      const size_t at = view * plane + static_cast<size_t>(y) * width, colors = at + 2 * view * plane;
      l1_row(targets[view] + 4 * (at - view * plane), backgrounds + 3 * view, width, plane, rgb + colors,
             alpha + at, l1 * scale(view) / 3, alpha_weight * scale(view), composites.get() + colors,
             d_rgb + colors, d_alpha + at, parts[task]);
    }
  });
  std::vector<double> structure(3 * static_cast<size_t>(views), 0.0);
  fourdvd::parallel_for(3 * views, [&](int task) {
    const int* edges = boxes + 4 * (task / 3);
    const Box box = {edges[0], edges[1], edges[2], edges[3]};
    if (ssim > 0 && box.x1 > box.x0 && box.y1 > box.y0)
      structure[task] = dissimilarity(rgb + task * plane, composites.get() + task * plane, height, width, box,
                                      ssim * scale(task / 3) / 3, d_rgb + task * plane);
  });
  for (int view = 0; view < views; ++view) {
    Sums sums;
    for (int strip = 0; strip < strips; ++strip) {
      const Sums& part = parts[static_cast<size_t>(view) * strips + strip];
      for (int c = 0; c < 4; ++c) sums.absolute[c] += part.absolute[c];
      sums.square += part.square;
    }
    const double* s = &structure[3 * static_cast<size_t>(view)];
    losses[view] = scale(view) * (l1 / 3 * (sums.absolute[0] + sums.absolute[1] + sums.absolute[2]) +
                                  alpha_weight * sums.absolute[3]) + s[0] + s[1] + s[2];
    squares[view] = sums.square / (3 * static_cast<double>(plane));
  }
}

}  // extern "C"
