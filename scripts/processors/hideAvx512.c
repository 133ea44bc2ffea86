/*
 * Loaded with LD_PRELOAD, makes a program believe that the processor has AVX2 but neither AVX-512 nor VNNI, so that its
 * AVX2 kernels run, at full speed, on a processor that has more. Linux on x86-64 with cpuid faulting (flag cpuid_fault).
 *
 * The kernel is asked to raise SIGSEGV at each cpuid instruction (arch_prctl(2), ARCH_CPUID_SET); the handler executes it
 * and takes the feature bits away. Leaf 7 of cpuid: Intel SDM volume 2A, table 3-8.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_CPUID_SET 0x1012
#define BIT(n) (1u << (n))

/* Leaf 7, sub-leaf 0: AVX-512 F, DQ, IFMA, CD, BW, VL; VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ; 4VNNIW, 4FMAPS, VP2INTERSECT,
 * AMX-BF16, AVX512-FP16, AMX-TILE, AMX-INT8. */
static const unsigned hidden_ebx = BIT(16) | BIT(17) | BIT(21) | BIT(28) | BIT(30) | BIT(31);
static const unsigned hidden_ecx = BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14);
static const unsigned hidden_edx = BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25);
/* Sub-leaf 1: AVX-VNNI, AVX512-BF16; AVX-VNNI-INT8, AVX-NE-CONVERT, AVX-VNNI-INT16, AVX10. */
static const unsigned hidden_eax_1 = BIT(4) | BIT(5);
static const unsigned hidden_edx_1 = BIT(4) | BIT(5) | BIT(10) | BIT(19);

/* What the program has asked to be done about SIGSEGV. */
static struct sigaction wanted;

static int set_cpuid_allowed(int allowed) { return syscall(SYS_arch_prctl, ARCH_CPUID_SET, allowed); }

static void answer_cpuid(greg_t *registers) {
  unsigned leaf = registers[REG_RAX], sub = registers[REG_RCX], a, b, c, d;
  set_cpuid_allowed(1);
  __cpuid_count(leaf, sub, a, b, c, d);
  set_cpuid_allowed(0);
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
  /* A refused instruction comes with SI_KERNEL, an access to memory with another code. */
  if (info->si_code == SI_KERNEL && instruction[0] == 0x0f && instruction[1] == 0xa2) {
    answer_cpuid(registers);
  } else if (wanted.sa_flags & SA_SIGINFO) {
    wanted.sa_sigaction(number, info, context);
  } else {
    signal(number, SIG_DFL);
  }
}

static int real_sigaction(int number, const struct sigaction *action, struct sigaction *old) {
  static int (*real)(int, const struct sigaction *, struct sigaction *);
  if (!real) real = (int (*)(int, const struct sigaction *, struct sigaction *))dlsym(RTLD_NEXT, "sigaction");
  return real(number, action, old);
}

/* Node.js resets all signals and has a SIGSEGV handler of its own; ours stays in front of it. */
int sigaction(int number, const struct sigaction *action, struct sigaction *old) {
  if (number != SIGSEGV) return real_sigaction(number, action, old);
  if (old) *old = wanted;
  if (action) wanted = *action;
  return 0;
}

__attribute__((constructor)) static void hide(void) {
  struct sigaction ours = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
  real_sigaction(SIGSEGV, &ours, &wanted);
  if (set_cpuid_allowed(0)) {
    perror("hideAvx512: this machine has no cpuid faulting");
    exit(99);
  }
}
