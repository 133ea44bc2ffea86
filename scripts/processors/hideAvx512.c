/*
 * Loaded with LD_PRELOAD, makes libraries that withoutCpuid.sh has copied believe that the processor has AVX2 but neither
 * AVX-512 nor VNNI, so that their AVX2 kernels run, at full speed, on a processor that has more. Compiled with
 * -DKEEP_AVX_VNNI it has AVX-VNNI too. Linux on x86-64.
 *
 * The copies have an instruction that no processor knows in place of each cpuid. It raises SIGILL; the handler executes
 * cpuid and takes the feature bits away. Leaf 7 of cpuid: Intel SDM volume 2A, table 3-8.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <signal.h>
#include <ucontext.h>

#define BIT(n) (1u << (n))

/* Leaf 7, sub-leaf 0: AVX-512 F, DQ, IFMA, CD, BW, VL; VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ; 4VNNIW, 4FMAPS, VP2INTERSECT,
 * AMX-BF16, AVX512-FP16, AMX-TILE, AMX-INT8. */
static const unsigned hidden_ebx = BIT(16) | BIT(17) | BIT(21) | BIT(28) | BIT(30) | BIT(31);
static const unsigned hidden_ecx = BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14);
static const unsigned hidden_edx = BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25);
/* Sub-leaf 1: AVX-VNNI, AVX512-BF16; AVX-VNNI-INT8, AVX-NE-CONVERT, AVX-VNNI-INT16, AVX10. */
#ifdef KEEP_AVX_VNNI
static const unsigned hidden_eax_1 = BIT(5);
#else
static const unsigned hidden_eax_1 = BIT(4) | BIT(5);
#endif
static const unsigned hidden_edx_1 = BIT(4) | BIT(5) | BIT(10) | BIT(19);

/* What the program has asked to be done about SIGILL. */
static struct sigaction wanted;

static void answer_cpuid(greg_t *registers) {
  unsigned leaf = registers[REG_RAX], sub = registers[REG_RCX], a, b, c, d;
  __cpuid_count(leaf, sub, a, b, c, d);
  if (leaf == 7 && sub == 0) {
    b &= ~hidden_ebx;
    c &= ~hidden_ecx;
    d &= ~hidden_edx;
  } else if (leaf == 7 && sub == 1) {
    a &= ~hidden_eax_1;
    d &= ~hidden_edx_1;
  }
  registers[REG_RAX] = a;
  registers[REG_RBX] = b;
  registers[REG_RCX] = c;
  registers[REG_RDX] = d;
  registers[REG_RIP] += 2;
}

static void on_fault(int number, siginfo_t *info, void *context) {
  greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  const unsigned char *instruction = (const unsigned char *)registers[REG_RIP];
  if (instruction[0] == 0x06 && instruction[1] == 0xa2) {
    answer_cpuid(registers);
  } else if (wanted.sa_flags & SA_SIGINFO) {
    wanted.sa_sigaction(number, info, context);
  } else if (wanted.sa_handler != SIG_DFL && wanted.sa_handler != SIG_IGN) {
    wanted.sa_handler(number);
  } else {
    signal(number, SIG_DFL);
  }
}

static int real_sigaction(int number, const struct sigaction *action, struct sigaction *old) {
  static int (*real)(int, const struct sigaction *, struct sigaction *);
  if (!real) real = (int (*)(int, const struct sigaction *, struct sigaction *))dlsym(RTLD_NEXT, "sigaction");
  return real(number, action, old);
}

/* Node.js resets all signals; our handler stays. */
int sigaction(int number, const struct sigaction *action, struct sigaction *old) {
  if (number != SIGILL) return real_sigaction(number, action, old);
  if (old) *old = wanted;
  if (action) wanted = *action;
  return 0;
}

__attribute__((constructor)) static void hide(void) {
  struct sigaction ours = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
  real_sigaction(SIGILL, &ours, &wanted);
}
