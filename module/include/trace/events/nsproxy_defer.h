/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM nsproxy_defer

#if !defined(_TRACE_NSPROXY_DEFER_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_NSPROXY_DEFER_H

#include <linux/tracepoint.h>

/* A release is left to the worker. */
TRACE_EVENT(nsproxy_defer_queue,
	TP_PROTO(const void *object, int pending),
	TP_ARGS(object, pending),
	TP_STRUCT__entry(
		__field(const void *, object)
		__field(int, pending)
	),
	TP_fast_assign(
		__entry->object = object;
		__entry->pending = pending;
	),
	TP_printk("object=%p pending=%d", __entry->object, __entry->pending)
);

/* A batch is closed and its grace period begins. */
TRACE_EVENT(nsproxy_defer_batch,
	TP_PROTO(unsigned long batch, int pending),
	TP_ARGS(batch, pending),
	TP_STRUCT__entry(
		__field(unsigned long, batch)
		__field(int, pending)
	),
	TP_fast_assign(
		__entry->batch = batch;
		__entry->pending = pending;
	),
	TP_printk("batch=%lu pending=%d", __entry->batch, __entry->pending)
);

/* The worker is about to release an object. */
TRACE_EVENT(nsproxy_defer_release,
	TP_PROTO(const void *object, unsigned long batch),
	TP_ARGS(object, batch),
	TP_STRUCT__entry(
		__field(const void *, object)
		__field(unsigned long, batch)
	),
	TP_fast_assign(
		__entry->object = object;
		__entry->batch = batch;
	),
	TP_printk("object=%p batch=%lu", __entry->object, __entry->batch)
);

#endif /* _TRACE_NSPROXY_DEFER_H */

#include <trace/define_trace.h>
