/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/partition/vp.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "hv/hypercall/hypercall.h"
#include "hv/kvm/kvm.h"
#include "hv/machine/machine.h"
#include "hv/partition/mailbox.h"
#include "hv/synic/synic.h"

#define VP_SIGNAL SIGUSR1
/* A VP's thread calls little and nothing recursive; 8 MiB for each is where the kernel puts huge
 * pages. */
#define VP_STACK_BYTES (256u << 10)
#define MSR_HV_CRASH_P0 0x40000100u
/* The connection ids that VMBus guests post to: before the handshake, and from 5.0 on. */
#define VP_POST_CONNECTION 1u
#define VP_POST_CONNECTION_V5 4u

static void vp_signal_nothing(int signo)
{
	(void)signo;
}

int vp_signal_setup(void)
{
	struct sigaction sa = {.sa_handler = vp_signal_nothing}; /* no SA_RESTART: KVM_RUN ends */

	return sigaction(VP_SIGNAL, &sa, NULL) == 0 ? 0 : -errno;
}

static void vp_lock(struct vp *vp)
{
	CHECK(pthread_mutex_lock(&vp->lock) == 0);
}

static void vp_unlock(struct vp *vp)
{
	CHECK(pthread_mutex_unlock(&vp->lock) == 0);
}

static void vp_post_message(struct vp *vp, uint64_t input_gpa, uint64_t *result)
{
	struct hypercall_message msg;
	enum hypercall_status status = hypercall_post_decode(vp->env.mem, input_gpa, &msg);

	if (status == HYPERCALL_SUCCESS && msg.connection_id != VP_POST_CONNECTION &&
	    msg.connection_id != VP_POST_CONNECTION_V5) {
		status = HYPERCALL_INVALID_CONNECTION_ID;
	}
	if (status == HYPERCALL_SUCCESS && mailbox_post(vp->env.mailbox, &msg) != 0) {
		status = HYPERCALL_INSUFFICIENT_BUFFERS; /* guests retry with a delay */
	}
	*result = status;
}

static void vp_hypercall(struct vp *vp, const struct kvm_exit *exit)
{
	uint32_t code = 0;
	enum hypercall_status status = hypercall_decode(exit->hypercall.control, &code);

	if (status != HYPERCALL_SUCCESS) {
		*exit->hypercall.result = status;
	} else if (code == HYPERCALL_POST_MESSAGE) {
		vp_post_message(vp, exit->hypercall.param[0], exit->hypercall.result);
	} else {
		/* Every open channel has a doorbell in the kernel: this one is nobody's. */
		*exit->hypercall.result = HYPERCALL_INVALID_CONNECTION_ID;
	}
}

static void vp_crash(struct vp *vp)
{
	uint64_t param[5] = {0};

	for (uint32_t i = 0; i < 5; i++) {
		if (kvm_msr_get(vp->vcpu, MSR_HV_CRASH_P0 + i, &param[i]) != 0) {
			param[i] = 0;
		}
	}
	mailbox_crash(vp->env.mailbox, param);
}

static void vp_failed(struct vp *vp, const char *why)
{
	char text[MAILBOX_TEXT_MAX];
	int used = snprintf(text, sizeof(text), "VP %u: %s; ", vp->index, why);

	if (used > 0 && (size_t)used < sizeof(text)) {
		kvm_vcpu_regs_text(vp->vcpu, text + used, sizeof(text) - (size_t)used);
	}
	mailbox_failed(vp->env.mailbox, text);
}

/* Returns false if the VP cannot go on by itself (the device thread has been told). */
static bool vp_exit(struct vp *vp, struct kvm_exit *exit)
{
	switch (exit->type) {
	case KVM_EXITED_INTERRUPTED:
		return true;
	case KVM_EXITED_IO:
		machine_io(vp->env.machine, exit->io.port, exit->io.is_in, exit->io.size_bytes,
		           exit->io.count, exit->io.data);
		return true;
	case KVM_EXITED_MMIO:
		machine_mmio(vp->env.machine, exit->mmio.gpa, exit->mmio.is_write,
		             exit->mmio.size_bytes, exit->mmio.data);
		return true;
	case KVM_EXITED_HYPERCALL:
		vp_hypercall(vp, exit);
		return true;
	case KVM_EXITED_SYNIC:
		if (vp->env.synic != NULL) {
			const struct synic_regs regs = {
				.scontrol = exit->synic.scontrol,
				.siefp = exit->synic.siefp,
				.simp = exit->synic.simp,
			};

			synic_pages(vp->env.synic, vp->index, &regs);
			mailbox_synic(vp->env.mailbox, vp->index);
		}
		return true;
	case KVM_EXITED_CRASH:
		vp_crash(vp);
		return true;
	case KVM_EXITED_RESET: /* not the guest's wish: that goes through the machine */
		log_limited(&vp->limit, LOG_LEVEL_WARN, "partition",
		            "triple fault, the guest restarts vp=%u", vp->index);
		mailbox_event(vp->env.mailbox, MAILBOX_RESET);
		return false;
	case KVM_EXITED_HALT: /* only without an in-kernel LAPIC */
		vp_failed(vp, "halted without interrupts");
		return false;
	case KVM_EXITED_FAILED:
		vp_failed(vp, exit->failed.text);
		return false;
	}
	return false;
}

static uint64_t vp_thread_cpu_ns(void)
{
	struct timespec ts;

	CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts) == 0);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* Wait until something else than "stop" is wanted. Returns false to end. */
static bool vp_wait(struct vp *vp)
{
	bool run;

	vp_lock(vp);
	vp->at = VP_AT_STOPPED;
	vp->cpu_ns = vp_thread_cpu_ns();
	CHECK(pthread_cond_broadcast(&vp->changed) == 0);
	while (vp->want == VP_WANT_STOP) {
		CHECK(pthread_cond_wait(&vp->changed, &vp->lock) == 0);
	}
	run = vp->want == VP_WANT_RUN;
	vp->at = run ? VP_AT_RUNNING : VP_AT_ENDED;
	if (run) {
		/* Under the lock: a stop that is asked for from now on sets it again. */
		kvm_vcpu_kick_set(vp->vcpu, false);
	}
	vp_unlock(vp);
	return run;
}

/* It left the guest because somebody wants something: a stop (false), or that it stays out for a
 * while. */
static bool vp_wanted(struct vp *vp)
{
	bool run;

	vp_lock(vp);
	while (vp->want == VP_WANT_RUN && vp->nap_until_ns > clock_now_ns()) {
		const struct timespec until = {
			.tv_sec = (time_t)(vp->nap_until_ns / NS_PER_S),
			.tv_nsec = (long)(vp->nap_until_ns % NS_PER_S),
		};

		(void)pthread_cond_timedwait(&vp->changed, &vp->lock, &until);
	}
	run = vp->want == VP_WANT_RUN;
	if (run) {
		/* Under the lock, as in vp_wait(). */
		kvm_vcpu_kick_set(vp->vcpu, false);
	}
	vp_unlock(vp);
	return run;
}

static void vp_loop(struct vp *vp)
{
	struct kvm_exit exit;
	bool able = true;

	while (able) {
		int err = kvm_vcpu_run(vp->vcpu, &exit);

		if (err != 0) {
			vp_failed(vp, strerrordesc_np(-err));
			able = false;
		} else if (exit.type == KVM_EXITED_INTERRUPTED && !vp_wanted(vp)) {
			return;
		} else {
			able = vp_exit(vp, &exit);
		}
	}
	/* Nothing more to run; stay here until the device thread has decided. */
	vp_lock(vp);
	while (vp->want == VP_WANT_RUN) {
		CHECK(pthread_cond_wait(&vp->changed, &vp->lock) == 0);
	}
	vp_unlock(vp);
}

/* A read whose answer is not yet in the registers must get there before anybody looks at them. */
static void vp_settle(struct vp *vp)
{
	struct kvm_exit exit;

	while (kvm_vcpu_settle(vp->vcpu, &exit) == 0 && exit.type != KVM_EXITED_INTERRUPTED &&
	       vp_exit(vp, &exit)) {
	}
}

static void *vp_main(void *arg)
{
	struct vp *vp = arg;

	while (vp_wait(vp)) {
		vp_loop(vp);
		vp_settle(vp);
	}
	return NULL;
}

int vp_start(struct vp *vp, uint32_t index, struct kvm_vcpu *vcpu, const struct vp_env *env,
             const char *vm_name)
{
	pthread_condattr_t monotonic;
	pthread_attr_t attr;
	char name[16];
	int err;

	*vp = (struct vp){.env = *env, .index = index, .vcpu = vcpu, .at = VP_AT_RUNNING};
	CHECK(pthread_mutex_init(&vp->lock, NULL) == 0);
	CHECK(pthread_condattr_init(&monotonic) == 0);
	CHECK(pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) == 0);
	CHECK(pthread_cond_init(&vp->changed, &monotonic) == 0);
	CHECK(pthread_condattr_destroy(&monotonic) == 0);
	CHECK(pthread_attr_init(&attr) == 0);
	CHECK(pthread_attr_setstacksize(&attr, VP_STACK_BYTES) == 0);
	err = pthread_create(&vp->thread, &attr, vp_main, vp);
	CHECK(pthread_attr_destroy(&attr) == 0);
	if (err != 0) {
		CHECK(pthread_cond_destroy(&vp->changed) == 0);
		CHECK(pthread_mutex_destroy(&vp->lock) == 0);
		return -err;
	}
	(void)snprintf(name, sizeof(name), "vp%u/%s", index, vm_name);
	(void)pthread_setname_np(vp->thread, name); /* cosmetic */
	vp_stop_wait(vp);
	return 0;
}

static void vp_want_set(struct vp *vp, enum vp_want want)
{
	vp_lock(vp);
	vp->want = want;
	if (want != VP_WANT_RUN) {
		kvm_vcpu_kick_set(vp->vcpu, true);
		CHECK(pthread_kill(vp->thread, VP_SIGNAL) == 0);
	}
	CHECK(pthread_cond_broadcast(&vp->changed) == 0);
	vp_unlock(vp);
}

void vp_run(struct vp *vp)
{
	vp_want_set(vp, VP_WANT_RUN);
}

void vp_stop_ask(struct vp *vp)
{
	vp_want_set(vp, VP_WANT_STOP);
}

void vp_nap(struct vp *vp, uint64_t until_ns)
{
	vp_lock(vp);
	vp->nap_until_ns = until_ns;
	if (vp->want == VP_WANT_RUN) {
		if (until_ns != 0) {
			kvm_vcpu_kick_set(vp->vcpu, true);
			CHECK(pthread_kill(vp->thread, VP_SIGNAL) == 0);
		}
		CHECK(pthread_cond_broadcast(&vp->changed) == 0);
	}
	vp_unlock(vp);
}

void vp_stop_wait(struct vp *vp)
{
	vp_lock(vp);
	while (vp->at == VP_AT_RUNNING) {
		CHECK(pthread_cond_wait(&vp->changed, &vp->lock) == 0);
	}
	vp_unlock(vp);
}

void vp_end(struct vp *vp)
{
	vp_want_set(vp, VP_WANT_END);
	CHECK(pthread_join(vp->thread, NULL) == 0);
	CHECK(pthread_cond_destroy(&vp->changed) == 0);
	CHECK(pthread_mutex_destroy(&vp->lock) == 0);
}

uint64_t vp_cpu_ns(struct vp *vp)
{
	struct timespec ts;
	clockid_t clock;
	uint64_t ns;

	vp_lock(vp);
	ns = vp->cpu_ns;
	if (vp->at == VP_AT_RUNNING && pthread_getcpuclockid(vp->thread, &clock) == 0 &&
	    clock_gettime(clock, &ts) == 0) {
		ns = (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
	}
	vp_unlock(vp);
	return ns;
}
