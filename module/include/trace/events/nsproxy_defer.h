/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM nsproxy_defer

#if !defined(_TRACE_NSPROXY_DEFER_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_NSPROXY_DEFER_H

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

#endif /* _TRACE_NSPROXY_DEFER_H */

#include <trace/define_trace.h>
