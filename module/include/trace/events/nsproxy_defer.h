/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM nsproxy_defer

#if !defined(_TRACE_NSPROXY_DEFER_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_NSPROXY_DEFER_H

#include <linux/fs.h>
#include <linux/kdev_t.h>
#include <linux/kernel.h>
#include <linux/nsproxy_defer.h>
#include <linux/tracepoint.h>

/*
 * A release is left to the worker. Each event says how many grace periods have
 * passed so far; a release must be at least one after its queuing.
 */
TRACE_EVENT(nsproxy_defer_queue,
	TP_PROTO(const void *object, int pending),
	TP_ARGS(object, pending),
	TP_STRUCT__entry(
		__field(const void *, object)
		__field(int, pending)
		__field(unsigned long, gps)
	),
	TP_fast_assign(
		__entry->object = object;
		__entry->pending = pending;
		__entry->gps = nsproxy_defer_gps();
	),
	TP_printk("object=%p pending=%d gps=%lu",
		  __entry->object, __entry->pending, __entry->gps)
);

/* A batch is closed and its grace period begins. */
TRACE_EVENT(nsproxy_defer_batch,
	TP_PROTO(unsigned long batch, int pending),
	TP_ARGS(batch, pending),
	TP_STRUCT__entry(
		__field(unsigned long, batch)
		__field(int, pending)
		__field(unsigned long, gps)
	),
	TP_fast_assign(
		__entry->batch = batch;
		__entry->pending = pending;
		__entry->gps = nsproxy_defer_gps();
	),
	TP_printk("batch=%lu pending=%d gps=%lu",
		  __entry->batch, __entry->pending, __entry->gps)
);

/* The worker is about to release an object. */
TRACE_EVENT(nsproxy_defer_release,
	TP_PROTO(const void *object, unsigned long batch),
	TP_ARGS(object, batch),
	TP_STRUCT__entry(
		__field(const void *, object)
		__field(unsigned long, batch)
		__field(unsigned long, gps)
	),
	TP_fast_assign(
		__entry->object = object;
		__entry->batch = batch;
		__entry->gps = nsproxy_defer_gps();
	),
	TP_printk("object=%p batch=%lu gps=%lu",
		  __entry->object, __entry->batch, __entry->gps)
);

/* What becomes of a mount that was taken off a tree: the file in stats that counts it. */
TRACE_EVENT(nsproxy_defer_mount,
	TP_PROTO(const struct super_block *sb, enum nsproxy_defer_stat fate),
	TP_ARGS(sb, fate),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__array(char, type, 16)
		__field(int, fate)
	),
	TP_fast_assign(
		__entry->dev = sb->s_dev;
		snprintf(__entry->type, sizeof(__entry->type), "%s", sb->s_type->name);
		__entry->fate = fate;
	),
	TP_printk("dev=%u:%u type=%s %s", MAJOR(__entry->dev), MINOR(__entry->dev),
		  __entry->type,
		  __print_symbolic(__entry->fate,
				   { NSPROXY_DEFER_STAT_FINISHED, "finished" },
				   { NSPROXY_DEFER_STAT_DROPPED, "dropped" },
				   { NSPROXY_DEFER_STAT_LEFT, "left" },
				   { NSPROXY_DEFER_STAT_WAITED_VISIBLE, "waited_visible" },
				   { NSPROXY_DEFER_STAT_WAITED_FILESYSTEM, "waited_filesystem" },
				   { NSPROXY_DEFER_STAT_WAITED_SUPERBLOCK, "waited_superblock" },
				   { NSPROXY_DEFER_STAT_WAITED_BOUND, "waited_bound" }))
);

#endif /* _TRACE_NSPROXY_DEFER_H */

#include <trace/define_trace.h>
