// SPDX-License-Identifier: GPL-2.0-only
/*
 * How many grace periods have passed, on kernels since 4.9
 *
 * Both counters are exported, but declared in a header of RCU's own; kernels for
 * one CPU may lack them.
 */
#include <linux/types.h>

#include "../symbols.h"
#include "gp.h"
#include "kcall.h"

DEFINE_KCALL(nsd_normal_seq, unsigned long (void));
DEFINE_KCALL(nsd_exp_seq, unsigned long (void));
/*
 * A sequence number's low bits hold a state, see kernel/rcu/rcu.h. What there is for
 * normal grace periods before 4.18 is their number. An RCU that is as old as that SRCU
 * has one bit of it.
 */
#ifdef NSD_HAVE_SRCU_WORK
#define SEQ_STATE_BITS	1
#else
#define SEQ_STATE_BITS	2
#endif
static unsigned int normal_state_bits = SEQ_STATE_BITS;

/*
 * Where the numbers stood at load. They start below zero and wrap soon after
 * boot, which is lost when the state is shifted out; the difference is not.
 */
static unsigned long normal_at_load;
static unsigned long exp_at_load;
static bool counted;

/**
 * nsd_gp_init - find the kernel's counters
 *
 * Context: process context, after nsd_symbols_init().
 */
void nsd_gp_init(void)
{
	unsigned long normal = nsd_symbol("rcu_get_gp_seq");
	unsigned long expedited = nsd_symbol("rcu_exp_batches_completed");

	if (!normal) {
		normal = nsd_symbol("rcu_batches_completed");
		normal_state_bits = 0;
	}
	if (!normal || !expedited)
		return;
	kcall_set(nsd_normal_seq, normal);
	kcall_set(nsd_exp_seq, expedited);
	normal_at_load = kcall(nsd_normal_seq)();
	exp_at_load = kcall(nsd_exp_seq)();
	counted = true;
}

/**
 * nsd_gp_seq - how many have passed, normal and expedited ones
 *
 * Context: any.
 * Return: the number since nsd_gp_init(), or 0 if this kernel does not tell.
 */
unsigned long nsd_gp_seq(void)
{
	unsigned long normal, expedited;

	if (!counted)
		return 0;
	normal = kcall(nsd_normal_seq)();
	expedited = kcall(nsd_exp_seq)();
	return ((normal - normal_at_load) >> normal_state_bits) +
	       ((expedited - exp_at_load) >> SEQ_STATE_BITS);
}
