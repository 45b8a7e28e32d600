/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/partition/partition.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/log.h"
#include "hv/machine/layout.h"
#include "hv/mem/gmem.h"
#include "hv/partition/partition_int.h"
#include "hv/save/save.h"
#include "hv/synic/synic.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vsp/vsp.h"

#define TAG "partition"
#define PARTITION_CRASH_TEXT_MAX 4096u
#define PARTITION_SAVE_VERSION 1u
#define MSR_HV_SCONTROL 0x40000080u
#define MSR_HV_SIEFP 0x40000082u
#define MSR_HV_SIMP 0x40000083u

static const char *const partition_names[PARTITION_STATE_COUNT] = {
	[PARTITION_OFF] = "off",           [PARTITION_STARTING] = "starting",
	[PARTITION_RUNNING] = "running",   [PARTITION_PAUSED] = "paused",
	[PARTITION_CRITICAL] = "critical", [PARTITION_SAVING] = "saving",
	[PARTITION_SAVED] = "saved",       [PARTITION_RESETTING] = "resetting",
	[PARTITION_STOPPING] = "stopping",
};

#define BIT(state) (1u << (state))

/* The diagram in partition.h, as data: bit n set = may move to state n. */
static const uint32_t partition_moves[PARTITION_STATE_COUNT] = {
	[PARTITION_OFF] = BIT(PARTITION_STARTING),
	[PARTITION_STARTING] = BIT(PARTITION_RUNNING) | BIT(PARTITION_PAUSED) | BIT(PARTITION_OFF) |
                               BIT(PARTITION_STOPPING),
	[PARTITION_RUNNING] = BIT(PARTITION_PAUSED) | BIT(PARTITION_CRITICAL) |
                              BIT(PARTITION_RESETTING) | BIT(PARTITION_STOPPING),
	[PARTITION_PAUSED] =
		BIT(PARTITION_RUNNING) | BIT(PARTITION_SAVING) | BIT(PARTITION_STOPPING),
	[PARTITION_CRITICAL] = BIT(PARTITION_RUNNING) | BIT(PARTITION_STOPPING),
	[PARTITION_SAVING] = BIT(PARTITION_RUNNING) | BIT(PARTITION_PAUSED) | BIT(PARTITION_SAVED) |
                             BIT(PARTITION_STOPPING),
	[PARTITION_SAVED] = BIT(PARTITION_STOPPING),
	[PARTITION_RESETTING] = BIT(PARTITION_RUNNING) | BIT(PARTITION_STOPPING),
	[PARTITION_STOPPING] = BIT(PARTITION_OFF),
};

const char *partition_state_name(enum partition_state state)
{
	return partition_names[state];
}

enum partition_state partition_state_get(const struct partition *p)
{
	return p->state;
}

static void partition_check(const struct partition *p)
{
	CHECK(p->state < PARTITION_STATE_COUNT);
	CHECK((p->state == PARTITION_OFF) <= (p->vm == NULL));
	CHECK((p->state == PARTITION_OFF) <= (p->vp_count == 0));
}

void partition_move(struct partition *p, enum partition_state next)
{
	enum partition_state from = p->state;

	CHECK((partition_moves[from] & BIT(next)) != 0);
	p->state = next;
	partition_check(p);
	log_info(TAG, "state vm=%s from=%s to=%s", p->cfg.vm_name, partition_names[from],
	         partition_names[next]);
	p->cfg.events->state(p->cfg.events_arg, from, next);
}

/* ---- machine callbacks: VP threads, machine lock held ---- */

static void partition_irq(void *arg, uint32_t gsi, bool level)
{
	struct partition *p = arg;

	/* Before the VM exists (restore) the level is said again when the device state is
	 * loaded. */
	if (p->vm != NULL) {
		int err = kvm_vm_irq(p->vm, gsi, level);

		CHECK(err == 0 || err == -ENXIO); /* a GSI of ours on a VM of ours */
	}
}

static void partition_console(void *arg, uint8_t byte)
{
	struct partition *p = arg;

	mailbox_console(&p->mailbox, byte);
}

static void partition_power_off(void *arg)
{
	struct partition *p = arg;

	mailbox_event(&p->mailbox, MAILBOX_POWER_OFF);
}

static void partition_guest_reset(void *arg)
{
	struct partition *p = arg;

	mailbox_event(&p->mailbox, MAILBOX_RESET);
}

static const struct machine_ops partition_machine_ops = {
	.irq = partition_irq,
	.console = partition_console,
	.power_off = partition_power_off,
	.reset = partition_guest_reset,
};

/* ---- the mailbox: device thread ---- */

static void partition_console_drain(struct partition *p)
{
	uint8_t buf[4096];
	size_t n;

	while ((n = mailbox_take_console(&p->mailbox, buf, sizeof(buf))) != 0) {
		p->cfg.events->console(p->cfg.events_arg, buf, n);
	}
}

/* The text a crashing guest points at: printable, cut, never trusted. */
static void partition_crash_text(struct partition *p, const uint64_t param[5], char *buf,
                                 size_t room)
{
	uint64_t len = param[4] < room - 1 ? param[4] : room - 1;

	buf[0] = '\0';
	if (len > PARTITION_CRASH_TEXT_MAX || gmem_read(p->mem, param[3], buf, len) != 0) {
		return;
	}
	buf[len] = '\0';
	for (uint64_t i = 0; i < len; i++) {
		if (buf[i] != '\n' && (buf[i] < ' ' || buf[i] > '~')) {
			buf[i] = '.';
		}
	}
}

static void partition_crashed(struct partition *p)
{
	char text[PARTITION_CRASH_TEXT_MAX + 1];
	uint64_t param[5];

	mailbox_take_crash(&p->mailbox, param);
	partition_crash_text(p, param, text, sizeof(text));
	log_limited(&p->crash_limit, LOG_LEVEL_WARN, TAG,
	            "guest crashed vm=%s p0=%llx p1=%llx p2=%llx", p->cfg.vm_name,
	            (unsigned long long)param[0], (unsigned long long)param[1],
	            (unsigned long long)param[2]);
	p->cfg.events->crash(p->cfg.events_arg, param, text);
}

static void partition_end_with(struct partition *p, enum partition_end end, const char *text)
{
	partition_vps_stop(p);
	p->cfg.events->ended(p->cfg.events_arg, end, text);
}

static void partition_reset_begin(struct partition *p);

/* Returns true if the VPs may go on. */
static bool partition_events_handle(struct partition *p)
{
	char text[MAILBOX_TEXT_MAX];
	uint64_t synic_vps;
	uint32_t events = mailbox_take_events(&p->mailbox, &synic_vps);

	if (p->state != PARTITION_RUNNING) {
		return false; /* a stop or reset is on its way; the VPs that said this are gone */
	}
	for (uint32_t i = 0; synic_vps != 0; i++, synic_vps >>= 1) {
		if ((synic_vps & 1) != 0) {
			vmbus_slot_free(p->bus, i);
		}
	}
	if ((events & MAILBOX_CRASH) != 0) {
		partition_crashed(p);
	}
	if ((events & MAILBOX_FAILED) != 0) {
		mailbox_text(&p->mailbox, text, sizeof(text));
		log_err(TAG, "partition failed vm=%s reason=%s", p->cfg.vm_name, text);
		partition_end_with(p, PARTITION_FAILED, text);
		return false;
	}
	if ((events & MAILBOX_POWER_OFF) != 0) {
		partition_end_with(p, PARTITION_POWERED_OFF, "the guest shut down");
		return false;
	}
	if ((events & MAILBOX_RESET) != 0) {
		partition_reset_begin(p);
		return false;
	}
	return true;
}

/* What the bus has no room for stays: the mailbox fills up, and then the guest's calls are
 * answered with "insufficient buffers". partition_slot_free() and a resume try again. */
static void partition_messages_handle(struct partition *p)
{
	struct hypercall_message msg;

	while (p->state == PARTITION_RUNNING && mailbox_first_message(&p->mailbox, &msg)) {
		/* No such connection: was said in the hypercall. */
		if (vmbus_message(p->bus, msg.connection_id, msg.payload, msg.len_bytes) ==
		    -EAGAIN) {
			return;
		}
		mailbox_drop_message(&p->mailbox);
	}
}

static void partition_mail(struct uring_op *op, int32_t res, bool more)
{
	struct partition *p = op->arg;

	if (!more) {
		p->mailbox_polled = false;
	}
	if (p->dying || res < 0) {
		return;
	}
	mailbox_acknowledge(&p->mailbox);
	partition_console_drain(p);
	if (p->bus != NULL) {
		partition_messages_handle(p);
	}
	(void)partition_events_handle(p);
	if (!more && uring_prep_poll(p->cfg.ring, &p->mailbox_poll, p->mailbox.event_fd, POLLIN,
	                             true) == 0) {
		p->mailbox_polled = true;
	}
}

static void partition_slot_free(void *arg, uint32_t vp_index)
{
	struct partition *p = arg;

	if (p->state == PARTITION_RUNNING) {
		vmbus_slot_free(p->bus, vp_index);
		partition_messages_handle(p);
	}
}

/* ---- create and destroy ---- */

static int partition_buses_create(struct partition *p)
{
	const struct synic_cfg synic = {
		.mem = p->mem,
		.ring = p->cfg.ring,
		.vp_count = p->cfg.vp_count,
		.slot_free = partition_slot_free,
		.arg = p,
	};
	int err = synic_create(&synic, &p->synic);

	if (err != 0) {
		return err;
	}

	const struct vmbus_cfg bus = {
		.mem = p->mem,
		.ring = p->cfg.ring,
		.host = synic_vmbus_ops(),
		.host_arg = p->synic,
		.vm_name = p->cfg.vm_name,
		.vp_count = p->cfg.vp_count,
	};

	return vmbus_create(&bus, &p->bus);
}

int partition_create(const struct partition_cfg *cfg, struct partition **out, struct errbuf *eb)
{
	const struct gmem_cfg mem = {
		.size_bytes = cfg->memory_bytes,
		.low_max_bytes = LAYOUT_LOW_RAM_MAX,
		.huge_2m = cfg->huge_2m,
	};
	struct partition *p;
	int err;

	*out = NULL;
	if (cfg->vp_count == 0 || cfg->vp_count > KVM_VCPUS_MAX) {
		return errbuf_set(eb, -EINVAL, "%u virtual processors: 1..%u are possible",
		                  cfg->vp_count, KVM_VCPUS_MAX);
	}
	err = vp_signal_setup();
	if (err != 0) {
		return errbuf_sys(eb, err, "cannot set up the VP signal");
	}
	p = gw_calloc(1, sizeof(*p));
	if (p == NULL) {
		return errbuf_sys(eb, -ENOMEM, "cannot create a partition");
	}
	p->cfg = *cfg;
	partition_track_init(p);
	err = mailbox_init(&p->mailbox);
	if (err != 0) {
		partition_track_fini(p);
		free(p);
		return errbuf_sys(eb, err, "cannot create a partition");
	}
	machine_init(&p->machine, &partition_machine_ops, p);
	err = gmem_create(&mem, &p->mem, eb);
	if (err != 0) {
		goto destroy_partition;
	}
	if (cfg->hyperv) {
		err = partition_buses_create(p);
		if (err != 0) {
			(void)errbuf_sys(eb, err, "cannot create the VMBus");
			goto destroy_partition;
		}
	}
	p->mailbox_poll = (struct uring_op){.fn = partition_mail, .arg = p};
	err = uring_prep_poll(cfg->ring, &p->mailbox_poll, p->mailbox.event_fd, POLLIN, true);
	if (err != 0) {
		(void)errbuf_sys(eb, err, "cannot watch the partition");
		goto destroy_partition;
	}
	p->mailbox_polled = true;
	*out = p;
	return 0;

destroy_partition:
	partition_destroy(p);
	return err;
}

void partition_destroy(struct partition *p)
{
	if (p == NULL) {
		return;
	}
	CHECK(p->state == PARTITION_OFF);
	partition_track_fini(p);
	p->dying = true;
	if (p->mailbox_polled) {
		CHECK(uring_cancel(p->cfg.ring, &p->mailbox_poll) == 0);
	}
	while (p->mailbox_polled) {
		CHECK(uring_wait(p->cfg.ring, UINT64_MAX) >= 0);
	}
	for (uint32_t i = 0; i < p->vsp_count; i++) {
		p->vsps[i]->ops->destroy(p->vsps[i]);
	}
	if (p->bus != NULL) {
		vmbus_destroy(p->bus);
	}
	synic_destroy(p->synic);
	gmem_destroy(p->mem);
	machine_fini(&p->machine);
	mailbox_fini(&p->mailbox);
	free(p);
}

static uint64_t partition_reference_time(void *arg)
{
	struct partition *p = arg;

	return p->vm != NULL ? kvm_vm_clock_ns(p->vm) / 100 : 0;
}

void partition_env(struct partition *p, struct vsp_env *out)
{
	*out = (struct vsp_env){
		.bus = p->bus,
		.mem = p->mem,
		.ring = p->cfg.ring,
		.vm_name = p->cfg.vm_name,
		.reference_time = partition_reference_time,
		.reference_arg = p,
	};
}

int partition_vsp_add(struct partition *p, struct vsp *vsp)
{
	CHECK(p->state == PARTITION_OFF);
	if (p->vsp_count == PARTITION_VSPS_MAX) {
		return -ENOSPC;
	}
	p->vsps[p->vsp_count++] = vsp;
	return 0;
}

/* ---- start, pause, resume ---- */

int partition_start(struct partition *p, struct errbuf *eb)
{
	int err;

	CHECK(p->state == PARTITION_OFF);
	partition_move(p, PARTITION_STARTING);
	err = partition_build(p, eb);
	if (err == 0) {
		err = partition_boot(p, eb);
		if (err != 0) {
			partition_teardown(p);
		}
	}
	if (err != 0) {
		partition_move(p, PARTITION_OFF);
		return err;
	}
	p->resets = 0;
	partition_vps_run(p);
	partition_move(p, PARTITION_RUNNING);
	return 0;
}

int partition_start_paused(struct partition *p, struct errbuf *eb)
{
	int err;

	CHECK(p->state == PARTITION_OFF);
	partition_move(p, PARTITION_STARTING);
	err = partition_build(p, eb);
	if (err != 0) {
		partition_move(p, PARTITION_OFF);
		return err;
	}
	if (p->bus != NULL) {
		vmbus_pause(p->bus);
	}
	partition_move(p, PARTITION_PAUSED);
	return 0;
}

/* One VSP is drained, or (NULL) all have been asked. */
static void partition_drained(void *arg)
{
	struct partition *p = arg;

	CHECK(p->draining != 0);
	if (--p->draining != 0 || p->state != PARTITION_RUNNING) {
		return; /* not the last, or stopped meanwhile */
	}
	partition_move(p, PARTITION_PAUSED);
	p->done(p->done_arg);
}

int partition_pause(struct partition *p, partition_fn done, void *arg)
{
	if (p->state != PARTITION_RUNNING || p->draining != 0) {
		return -EBUSY;
	}
	partition_vps_stop(p);
	/* What the guest said before it stopped is still heard; a guest that has just powered off
	 * or rebooted cannot be paused any more. */
	if (!partition_events_handle(p)) {
		return -EBUSY;
	}
	p->done = done;
	p->done_arg = arg;
	if (p->bus != NULL) {
		partition_messages_handle(p);
		vmbus_pause(p->bus);
	}
	p->draining = p->vsp_count + 1;
	for (uint32_t i = 0; i < p->vsp_count; i++) {
		p->vsps[i]->ops->pause(p->vsps[i], partition_drained, p);
	}
	partition_drained(p);
	return 0;
}

int partition_resume(struct partition *p)
{
	if (p->state != PARTITION_PAUSED && p->state != PARTITION_SAVING) {
		return -EBUSY;
	}
	for (uint32_t i = 0; i < p->vsp_count; i++) {
		p->vsps[i]->ops->resume(p->vsps[i]);
	}
	partition_move(p, PARTITION_RUNNING);
	if (p->bus != NULL) {
		vmbus_resume(p->bus);
		partition_messages_handle(p);
	}
	partition_vps_run(p);
	return 0;
}

int partition_critical(struct partition *p)
{
	if (p->state != PARTITION_RUNNING || p->draining != 0) {
		return -EBUSY;
	}
	partition_vps_stop(p);
	if (!partition_events_handle(p)) {
		return -EBUSY; /* it has just powered off or rebooted */
	}
	partition_move(p, PARTITION_CRITICAL);
	return 0;
}

int partition_well(struct partition *p)
{
	if (p->state != PARTITION_CRITICAL) {
		return -EBUSY;
	}
	partition_move(p, PARTITION_RUNNING);
	if (p->bus != NULL) {
		partition_messages_handle(p);
	}
	partition_vps_run(p);
	return 0;
}

int partition_power_button(struct partition *p)
{
	if (p->state != PARTITION_RUNNING) {
		return -EBUSY;
	}
	machine_power_button(&p->machine);
	return 0;
}

/* ---- reset and stop: VPs end, channels close, then the VM is rebuilt or gone ---- */

static void partition_reset_finish(struct partition *p)
{
	struct errbuf eb = {0};
	int err;

	partition_teardown(p);
	err = partition_build(p, &eb);
	if (err == 0) {
		err = partition_boot(p, &eb);
	}
	if (err != 0) {
		log_err(TAG, "reset failed vm=%s reason=%s", p->cfg.vm_name, errbuf_text(&eb, err));
		p->cfg.events->ended(p->cfg.events_arg, PARTITION_FAILED, errbuf_text(&eb, err));
		return;
	}
	partition_move(p, PARTITION_RUNNING);
	partition_vps_run(p);
}

static void partition_stop_finish(struct partition *p)
{
	partition_teardown(p);
	partition_console_drain(p);
	partition_move(p, PARTITION_OFF);
	p->done(p->done_arg);
}

/* No VSP touches the guest's memory any more. A reset may have become a stop meanwhile. */
static void partition_bus_ended(void *arg)
{
	struct partition *p = arg;

	p->bus_ending = false;
	if (p->state == PARTITION_STOPPING) {
		partition_stop_finish(p);
	} else {
		CHECK(p->state == PARTITION_RESETTING);
		partition_reset_finish(p);
	}
}

static void partition_bus_end(struct partition *p)
{
	if (p->bus == NULL) {
		partition_bus_ended(p);
	} else if (!p->bus_ending) {
		p->bus_ending = true;
		vmbus_reset(p->bus, partition_bus_ended, p);
	}
}

static void partition_reset_begin(struct partition *p)
{
	p->resets++;
	partition_vps_stop(p);
	if (!p->cfg.events->reset(p->cfg.events_arg, p->resets)) {
		p->cfg.events->ended(p->cfg.events_arg, PARTITION_POWERED_OFF,
		                     "the guest restarted, and the VM is set not to");
		return;
	}
	partition_move(p, PARTITION_RESETTING);
	partition_bus_end(p);
}

int partition_reset(struct partition *p)
{
	if (p->state != PARTITION_RUNNING || p->draining != 0) {
		return -EBUSY;
	}
	partition_reset_begin(p);
	return 0;
}

void partition_stop(struct partition *p, partition_fn done, void *arg)
{
	CHECK(p->state != PARTITION_OFF && p->state != PARTITION_STOPPING);
	p->done = done;
	p->done_arg = arg;
	partition_vps_stop(p);
	partition_move(p, PARTITION_STOPPING);
	partition_bus_end(p);
}

size_t partition_console_input(struct partition *p, const void *buf, size_t len_bytes)
{
	return p->state == PARTITION_RUNNING ? machine_console_input(&p->machine, buf, len_bytes)
	                                     : 0;
}

/* ---- save and load ---- */

int partition_save(struct partition *p, struct save *s)
{
	if (p->state != PARTITION_PAUSED) {
		return -EBUSY;
	}
	partition_move(p, PARTITION_SAVING);
	save_begin(s, "partition", PARTITION_SAVE_VERSION, true);
	save_u32(s, p->cfg.vp_count);
	save_u64(s, p->cfg.memory_bytes);
	save_u32(s, p->resets);
	save_end(s);
	for (uint32_t i = 0; i < p->vcpu_count; i++) {
		kvm_vcpu_save(p->vcpus[i], s);
	}
	kvm_vm_save(p->vm, s);
	machine_save(&p->machine, s);
	mailbox_save(&p->mailbox, s);
	if (p->bus != NULL) {
		vmbus_save(p->bus, s);
	}
	for (uint32_t i = 0; i < p->vsp_count; i++) {
		p->vsps[i]->ops->save(p->vsps[i], s);
	}
	return 0;
}

/* Where the SynIC pages are, learned at run time from exits, now from the restored registers. */
static int partition_synic_restore(struct partition *p)
{
	for (uint32_t i = 0; i < p->vcpu_count; i++) {
		struct synic_regs regs = {0};
		int err = kvm_msr_get(p->vcpus[i], MSR_HV_SCONTROL, &regs.scontrol);

		if (err == 0) {
			err = kvm_msr_get(p->vcpus[i], MSR_HV_SIEFP, &regs.siefp);
		}
		if (err == 0) {
			err = kvm_msr_get(p->vcpus[i], MSR_HV_SIMP, &regs.simp);
		}
		if (err != 0) {
			return err;
		}
		synic_pages(p->synic, i, &regs);
	}
	return 0;
}

static int partition_devices_load(struct partition *p, struct load *l)
{
	int err = machine_load(&p->machine, l);

	if (err == 0) {
		err = mailbox_load(&p->mailbox, l);
	}
	/* VSPs first: they offer the sub-channels whose state the bus then finds in its section. */
	for (uint32_t i = 0; i < p->vsp_count && err == 0; i++) {
		err = p->vsps[i]->ops->load(p->vsps[i], l);
	}
	if (err == 0 && p->bus != NULL) {
		err = partition_synic_restore(p);
		if (err == 0) {
			err = vmbus_load(p->bus, l);
		}
	}
	return err;
}

/* The guest uses a device that this VM does not have, or that only a newer version knows. */
static int partition_sections_check(struct load *l)
{
	const char *left = load_unread(l);

	if (left == NULL) {
		return 0;
	}
	(void)load_fail(l, -EPROTONOSUPPORT,
	                "the state has a section \"%s\" that nothing here "
	                "knows",
	                left);
	errbuf_hint(l->eb, "load it with the definition and the version that saved it");
	return load_error(l);
}

int partition_load(struct partition *p, struct load *l)
{
	int err;

	if (p->state != PARTITION_PAUSED) {
		return -EBUSY;
	}
	err = load_begin(l, "partition", PARTITION_SAVE_VERSION);
	if (err != 0) {
		return err;
	}
	if (load_u32(l) != p->cfg.vp_count || load_u64(l) != p->cfg.memory_bytes) {
		(void)load_fail(l, -EBADMSG, "the state is of a VM with other memory or VPs");
	}
	p->resets = load_u32(l);
	load_end(l);
	err = load_error(l);
	for (uint32_t i = 0; i < p->vcpu_count && err == 0; i++) {
		err = kvm_vcpu_load(p->vcpus[i], l);
	}
	if (err == 0) {
		err = kvm_vm_load(p->vm, l);
	}
	if (err == 0) {
		err = partition_devices_load(p, l);
	}
	return err != 0 ? err : partition_sections_check(l);
}

int partition_save_cancel(struct partition *p)
{
	if (p->state != PARTITION_SAVING) {
		return -EBUSY;
	}
	partition_move(p, PARTITION_PAUSED);
	return 0;
}

int partition_saved(struct partition *p)
{
	if (p->state != PARTITION_SAVING) {
		return -EBUSY;
	}
	partition_move(p, PARTITION_SAVED);
	return 0;
}

/* ---- the rest ---- */

struct gmem *partition_mem(struct partition *p)
{
	return p->mem;
}

struct vmbus *partition_vmbus(struct partition *p)
{
	return p->bus;
}

uint64_t partition_cpu_ns(struct partition *p)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < p->vp_count; i++) {
		sum += vp_cpu_ns(&p->vps[i]);
	}
	return sum;
}
