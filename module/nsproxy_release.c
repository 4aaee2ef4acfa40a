// SPDX-License-Identifier: GPL-2.0-only
/*
 * Deferred release of nsproxies that are read under RCU
 *
 * Up to Linux 3.16 a task reads the nsproxy of another one under
 * rcu_read_lock(), and takes references to the namespaces in it by a plain
 * increment. That is right only as long as the nsproxy holds a reference to
 * each of them, so all of its references, and not just its memory, must outlast
 * a grace period after the nsproxy went out of sight. Here they do, because
 * free_nsproxy() as a whole comes after it, in a worker.
 *
 * In mode safe, a namespace that would end with this nsproxy must have ended
 * when the caller goes on. So it matters whether anybody else holds it, and
 * nsproxies that wait in the queue are nobody: two that share a mount
 * namespace and die at the same time must not each leave it to the other. As
 * there is no room for a count of these in the namespaces, there is a table of
 * counters, and a namespace uses the one that its address hashes to. If several
 * use the same one, more references look like those of the dead than are, and
 * a release may be kept that could have been deferred, but never the other way.
 *
 * Files hold namespaces, too. Whoever closes the last of these, with none but the
 * dead left, has ended the namespace, and waits for them: see nsproxy_put_ends().
 *
 * This file is the same in the module and in the patch series.
 */
#include <linux/atomic.h>
#include <linux/bug.h>
#include <linux/hash.h>
#include <linux/ipc_namespace.h>
#include <linux/kernel.h>
#include <linux/llist.h>
#include <linux/nsproxy.h>
#include <linux/nsproxy_defer.h>
#include <linux/nsproxy_release.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>

#define DEAD_HOLDS_BITS	8

static atomic_t dead_holds_table[1 << DEAD_HOLDS_BITS];

static atomic_t *dead_holds(void *namespace)
{
	return &dead_holds_table[hash_ptr(namespace, DEAD_HOLDS_BITS)];
}

/*
 * How many of the dead hold @namespace, the caller included. In a kernel for one
 * CPU only a last hold is ever left to the worker, so the caller is alone.
 */
static int count_dead(void *namespace)
{
	return IS_ENABLED(CONFIG_TINY_RCU) ? 1 : atomic_inc_return(dead_holds(namespace));
}

static void uncount_dead(void *namespace)
{
	if (!IS_ENABLED(CONFIG_TINY_RCU))
		atomic_dec(dead_holds(namespace));
}

/*
 * Counts the references of @ns as those of the dead. Returns true if, after
 * that, one of its namespaces may have no other ones. Whoever counts first and
 * looks afterwards, as here, sees all that came before; atomic_inc_return()
 * orders the two.
 */
static bool add_dead(const struct nsproxy *ns)
{
	bool last = false;

	if (count_dead(ns->mnt_ns) >= mnt_ns_count(ns->mnt_ns))
		last = true;
	/* Without CONFIG_IPC_NS there is one, and nobody counts. */
	if (IS_ENABLED(CONFIG_IPC_NS) &&
	    count_dead(ns->ipc_ns) >= atomic_read(&ns->ipc_ns->count))
		last = true;
	return last;
}

static void remove_dead(void *mnt_ns, void *ipc_ns)
{
	uncount_dead(mnt_ns);
	if (IS_ENABLED(CONFIG_IPC_NS))
		uncount_dead(ipc_ns);
}

/**
 * nsproxy_release - let go of an nsproxy that has no users any more
 * @ns: the nsproxy; its count is zero, and no task points to it
 *
 * Leaves it to a worker, or else does as switch_task_namespaces() did: waits
 * for a grace period and takes it apart.
 *
 * Context: process context, may sleep. The caller must hold no lock that the
 * end of a namespace may want.
 */
void nsproxy_release(struct nsproxy *ns)
{
	/*
	 * Of the count, which has come to zero, nobody makes use again.
	 * Everything else is still there for those who found @ns under RCU.
	 */
	struct llist_node *node = (struct llist_node *)&ns->count;
	bool last, queued;

	BUILD_BUG_ON(offsetof(struct nsproxy, count));
	BUILD_BUG_ON(offsetof(struct nsproxy, uts_ns) < sizeof(*node));

	/*
	 * Who has seen these references counted, and waits for a grace period,
	 * finds them queued.
	 */
	rcu_read_lock();
	last = add_dead(ns);
	if (IS_ENABLED(CONFIG_TINY_RCU) && !last) {
		rcu_read_unlock();
		/*
		 * One CPU, and no preemption of readers: where this task may
		 * sleep there is none, and the rest is quickly done.
		 */
		remove_dead(ns->mnt_ns, ns->ipc_ns);
		free_nsproxy(ns);
		return;
	}

	queued = last ? nsproxy_defer_queue(node, true) : nsproxy_defer_queue_light(node);
	rcu_read_unlock();
	if (queued)
		return;
	remove_dead(ns->mnt_ns, ns->ipc_ns);
	synchronize_rcu();
	free_nsproxy(ns);
	/* A namespace that this was the last to use may wait for the dead. */
	if (last && !nsproxy_defer_all())
		nsproxy_defer_flush(NSPROXY_DEFER_LAST);
}

/**
 * nsproxy_release_queued - take an nsproxy apart whose grace period is over
 * @node: what nsproxy_release() queued
 *
 * Context: process context, may sleep.
 */
void nsproxy_release_queued(struct llist_node *node)
{
	struct nsproxy *ns = (struct nsproxy *)node;
	void *mnt_ns = ns->mnt_ns, *ipc_ns = ns->ipc_ns;

	free_nsproxy(ns);
	/* Not before, or these references would look like those of the living. */
	remove_dead(mnt_ns, ipc_ns);
}

#ifndef CONFIG_TINY_RCU
/**
 * nsproxy_put_begins - a reference to a mount or IPC namespace is about to go
 * @ns: the namespace
 * @count: of its references
 *
 * For those that are not an nsproxy's, a file's for example. The other half is
 * nsproxy_put_ends().
 *
 * Context: any.
 * Return: true if the dead alone hold the namespace otherwise.
 */
bool nsproxy_put_begins(void *ns, const atomic_t *count)
{
	int dead = count_dead(ns);
	int all = atomic_read(count);

	/* A kernel thread returns to no program, and may be what they wait for. */
	return all > 1 && dead >= all && !(current->flags & PF_KTHREAD);
}

/**
 * nsproxy_put_ends - a reference to a mount or IPC namespace has gone
 * @ns: the namespace, which may be gone, too
 * @last: what nsproxy_put_begins() said
 *
 * Without the deferral the namespace would have ended now, so in mode safe this
 * waits until it has.
 *
 * Context: process context, may sleep. The caller must hold no lock that the
 * end of a namespace may want.
 */
void nsproxy_put_ends(void *ns, bool last)
{
	uncount_dead(ns);
	if (!last || nsproxy_defer_all())
		return;
	/* What was counted may not have been queued yet, see nsproxy_release(). */
	synchronize_rcu();
	nsproxy_defer_flush(NSPROXY_DEFER_LAST);
}
#endif
