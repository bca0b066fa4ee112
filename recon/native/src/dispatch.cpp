// Selects the best compiled instruction set that the processor supports.

// As INTERFACE in recon/native/library.py; counts changes of structures and arguments.
extern "C" int fourdvd_interface() { return 6; }

extern "C" const char* fourdvd_best_variant() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return "avx512";
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "avx2";
#endif
  return "generic";
}
