// SPDX-License-Identifier: GPL-2.0-only
/*
 * Taking functions over by ftrace, all or none
 *
 * One struct ftrace_ops serves every function of the table: registering it is
 * all or nothing, and giving everything back costs one RCU-tasks grace period
 * rather than one for each function.
 *
 * The callback changes the instruction pointer, so that the replacement runs as
 * if it had been called in the first place. A call from this module goes to the
 * original: that is how a replacement reaches it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/errno.h>
#include <linux/ftrace.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/srcu.h>

#include "arch.h"
#include "compat/compat.h"
#include "hook.h"
#include "symbols.h"
#include "takeover.h"

/*
 * Every replacement is a reader for as long as it runs. Not DEFINE_SRCU(): from 4.12 to
 * 5.1 nobody waits for the work items of that when its module goes.
 */
struct srcu_struct nsd_hook_srcu;

/* Written by nsd_hooks_take() alone, under its lock. */
static bool taken;

#ifdef NSD_CAN_REDIRECT
static void notrace redirect(unsigned long ip, unsigned long parent_ip,
			     struct ftrace_ops *op, struct nsd_ftrace_regs *fregs)
{
	struct nsd_hook *hook;

	if (nsd_within_module(parent_ip))
		return;
	for (hook = nsd_hooks; hook->names; hook++) {
		if (ip - hook->address >= NSD_ENTRY_BYTES)
			continue;
		if (!hook->wanted || hook->wanted(fregs))
			nsd_ftrace_set_ip(fregs, (unsigned long)hook->replacement);
		return;
	}
}

static struct ftrace_ops redirect_ops = {
	.func = redirect,
	/*
	 * PERMANENT: kernel.ftrace_enabled=0 would take the replacements out
	 * of action, with releases pending. No protection from recursion: the
	 * callback and what it calls use no function of the table.
	 */
	.flags = NSD_FTRACE_IPMODIFY | NSD_FTRACE_PERMANENT | NSD_FTRACE_FLAGS,
};

/* Up to 5.17 ftrace wants to be told the very instruction; what is before it has four bytes. */
static int filter(struct nsd_hook *hook, bool remove)
{
	unsigned long entry = hook->address;
	int err;

	do {
		err = ftrace_set_filter_ip(&redirect_ops, entry, remove, 0);
		entry += 4;
	} while (err && err != -ENOMEM && entry - hook->address < NSD_ENTRY_BYTES);
	return err;
}

static int register_redirect(void)
{
	return register_ftrace_function(&redirect_ops);
}

static void unregister_redirect(void)
{
	unregister_ftrace_function(&redirect_ops);
}

#else
/* Never reached: main.c refuses such a kernel, by nsd_missing_option(). */
static int filter(struct nsd_hook *hook, bool remove)
{
	return -EOPNOTSUPP;
}

static int register_redirect(void)
{
	return -EOPNOTSUPP;
}

static void unregister_redirect(void)
{
}
#endif

/* An empty filter holds no memory; one taken down to the last entry is empty. */
static void clear_filter(void)
{
	struct nsd_hook *hook;

	for (hook = nsd_hooks; hook->names; hook++)
		if (hook->address)
			filter(hook, true);
}

/**
 * nsd_hooks_init - prepare for readers
 *
 * Context: process context, may sleep.
 * Return: 0, or -ENOMEM.
 */
int nsd_hooks_init(void)
{
	return init_srcu_struct(&nsd_hook_srcu);
}

/**
 * nsd_hooks_exit - the opposite of nsd_hooks_init()
 *
 * Context: process context, may sleep. There are no readers, nor will be.
 */
void nsd_hooks_exit(void)
{
	cleanup_srcu_struct(&nsd_hook_srcu);
}

/**
 * nsd_hooks_resolve - find every function of the table
 *
 * Context: process context, after nsd_symbols_init().
 * Return: 0; -ENOENT if the kernel lacks a function, which the log names.
 */
int nsd_hooks_resolve(void)
{
	const char * const *name;
	struct nsd_hook *hook;

	for (hook = nsd_hooks; hook->names; hook++) {
		hook->address = 0;
		if (hook->unless && nsd_symbol(hook->unless))
			continue;
		for (name = hook->names; *name && !hook->address; name++)
			hook->address = nsd_symbol(*name);
		if (hook->address) {
			if (hook->set_original)
				hook->set_original(hook->address);
		} else if (!hook->optional) {
			pr_err("this kernel has no function %s\n", hook->names[0]);
			return -ENOENT;
		}
	}
	return 0;
}

static int take(void)
{
	struct nsd_hook *hook;
	int err;

	for (hook = nsd_hooks; hook->names; hook++) {
		if (!hook->address)
			continue;
		err = filter(hook, false);
		if (err) {
			pr_err("cannot redirect %ps: %s (error %d)\n",
			       (void *)hook->address,
			       err == -ENOMEM ? "no memory" : "ftrace does not reach it",
			       err);
			goto clear;
		}
	}
	err = register_redirect();
	if (err) {
		pr_err("cannot redirect: ftrace refuses (error %d)%s\n", err,
		       err == -EBUSY ? "; is kernel.ftrace_enabled 0, or a live patch there?" : "");
		goto clear;
	}
	return 0;

clear:
	clear_filter();
	return err;
}

/**
 * nsd_hooks_take - put the replacements in the place of the functions
 *
 * Does nothing if they are there already.
 *
 * Context: process context, may sleep; after nsd_hooks_resolve().
 * Return: 0, or an error that the log explains; then no function is taken.
 */
int nsd_hooks_take(void)
{
	static DEFINE_MUTEX(lock);
	int err = 0;

	mutex_lock(&lock);
	if (!taken)
		err = take();
	taken = !err;
	mutex_unlock(&lock);
	return err;
}

/**
 * nsd_hooks_quiesce - wait for the tasks that are inside a replacement now
 *
 * A task may have been sent to one and not run its first instruction yet. It
 * cannot sleep there by its own will, which is what nsd_synchronize_tasks() waits
 * for. A task may very well sleep farther on: that is what SRCU is for. Litmus test:
 * unload-look.
 *
 * Context: process context, sleeps until the last of them has returned.
 */
void nsd_hooks_quiesce(void)
{
	nsd_synchronize_tasks();
	synchronize_srcu(&nsd_hook_srcu);
	nsd_flush_srcu(&nsd_hook_srcu);
}

/**
 * nsd_hooks_give_back - the opposite of nsd_hooks_take()
 *
 * When it returns, no task is in a replacement, nor on the way into or out of
 * one, and none will be.
 *
 * Context: process context, may sleep. Nobody is in nsd_hooks_take().
 */
void nsd_hooks_give_back(void)
{
	if (!taken)
		return;
	unregister_redirect();
	nsd_hooks_quiesce();
	/* The way out is as the way in. */
	nsd_synchronize_tasks();
	clear_filter();
}
