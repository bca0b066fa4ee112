// Activations of stored Gaussians without view-dependent color, and their gradient; see
// recon/activations.py.
//
//   scale = exp(s),  opacity = 1 / (1 + exp(-o)),  rgb = max(0, 1/2 + C0 sh)

#include <algorithm>
#include <cstdint>

#include "parallel.h"
#include "simd.h"
#include "variant.h"

namespace fourdvd {
namespace {

constexpr int kBlock = 2048;  // Gaussians in one task
constexpr float kC0 = 0.28209479f;

// Calls f(first, n) for runs of n <= W numbers of the Gaussians of a task, `each` numbers a Gaussian.
template <class F>
inline void runs(int task, int count, int each, const F& f) {
  const int64_t end = static_cast<int64_t>(std::min(count, (task + 1) * kBlock)) * each;
  for (int64_t i = static_cast<int64_t>(task) * kBlock * each; i < end; i += W)
    f(i, static_cast<int>(std::min<int64_t>(W, end - i)));
}

// exp2 clamps its argument; NaN must stay NaN, so that a fit that diverges is noticed.
inline vf exponential(vf x) { return select(x == x, exp2(x * kLog2e), x); }

}  // namespace
}  // namespace fourdvd

using namespace fourdvd;

extern "C" {

// log_scales, sh: [N, 3]; logits: [N]. Results have the same shapes.
void NAME(activate)(int count, const float* log_scales, const float* logits, const float* sh, float* scales,
                    float* opacities, float* rgb) {
  parallel_for((count + kBlock - 1) / kBlock, [&](int task) {
    runs(task, count, 3, [&](int64_t i, int n) {
      store_some(scales + i, n, exponential(load_some(log_scales + i, n, 0)));
      const vf color = kC0 * load_some(sh + i, n, 0) + 0.5f;
      store_some(rgb + i, n, select(color < splat(0.0f), splat(0.0f), color));
    });
    runs(task, count, 1, [&](int64_t i, int n) {
      store_some(opacities + i, n, 1.0f / (1.0f + exponential(-load_some(logits + i, n, 0))));
    });
  });
}

// scales, opacities, rgb: results of `activate`; d_…: gradients by the results, then by the inputs.
void NAME(activate_gradient)(int count, const float* scales, const float* opacities, const float* rgb,
                             const float* d_scales, const float* d_opacities, const float* d_rgb,
                             float* d_log_scales, float* d_logits, float* d_sh) {
  parallel_for((count + kBlock - 1) / kBlock, [&](int task) {
    runs(task, count, 3, [&](int64_t i, int n) {
      store_some(d_log_scales + i, n, load_some(d_scales + i, n, 0) * load_some(scales + i, n, 0));
      const vi shown = load_some(rgb + i, n, 0) > splat(0.0f);
      store_some(d_sh + i, n, keep(shown, kC0 * load_some(d_rgb + i, n, 0)));
    });
    runs(task, count, 1, [&](int64_t i, int n) {
      const vf a = load_some(opacities + i, n, 0);
      store_some(d_logits + i, n, load_some(d_opacities + i, n, 0) * a * (1.0f - a));
    });
  });
}

}  // extern "C"
