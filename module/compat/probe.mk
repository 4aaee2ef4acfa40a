# SPDX-License-Identifier: GPL-2.0-only
#
# What this kernel's headers have, asked of the headers themselves: vendors
# carry features across versions in both directions.

nsd-comma := ,
nsd-grep = $(shell grep -qsE '$(2)' $(srctree)/include/linux/$(1) && echo -D$(3))

# The ftrace callback is given struct ftrace_regs (5.11), not struct pt_regs.
ccflags-y += $(call nsd-grep,ftrace.h,^\s*struct ftrace_ops \*op$(nsd-comma) struct ftrace_regs,NSD_HAVE_FTRACE_REGS)
# ... which is opaque (6.13), with an accessor for those who must look.
ccflags-y += $(if $(shell grep -rls arch_ftrace_regs $(srctree)/arch/$(SRCARCH)/include/asm/ftrace.h),-DNSD_HAVE_ARCH_FTRACE_REGS)
# The namespaces' reference count lives in struct ns_common (5.11), and later
# there under a name that says hands off (6.18).
ccflags-y += $(call nsd-grep,ns_common.h,^\s*refcount_t count;,NSD_HAVE_NS_COMMON_COUNT)
ccflags-y += $(call nsd-grep,ns_common.h,__ns_ref_put,NSD_HAVE_NS_REF)
# call_rcu() may be lazy (6.2).
ccflags-y += $(call nsd-grep,rcupdate.h,call_rcu_hurry,NSD_HAVE_CALL_RCU_HURRY)
# The namespaces have a struct ns_common, and it a header of its own (3.19).
ccflags-y += $(call nsd-grep,ns_common.h,struct ns_common,NSD_HAVE_NS_COMMON)
# sysfs is built on kernfs (3.14).
ccflags-y += $(call nsd-grep,kernfs.h,kernfs_find_and_get,NSD_HAVE_KERNFS)
# ftrace wants to be told of redirects (3.19), and can be told to stay (5.5).
ccflags-y += $(call nsd-grep,ftrace.h,FTRACE_OPS_FL_IPMODIFY,NSD_HAVE_FTRACE_IPMODIFY)
ccflags-y += $(call nsd-grep,ftrace.h,FTRACE_OPS_FL_PERMANENT,NSD_HAVE_FTRACE_PERMANENT)
# 3.17.
ccflags-y += $(call nsd-grep,module.h,bool within_module\b,NSD_HAVE_WITHIN_MODULE)
# SRCU up to 4.11.
ccflags-y += $(call nsd-grep,srcu.h,struct delayed_work work;,NSD_HAVE_SRCU_WORK)
# A wait for tasks that were preempted in code that is to go (3.18).
nsd-rcu-tasks := $(call nsd-grep,rcupdate.h,synchronize_rcu_tasks,NSD_HAVE_RCU_TASKS)
ccflags-y += $(nsd-rcu-tasks)

# Class L: other tasks read an nsproxy under RCU (up to 3.16). A vendor may have
# brought task_lock() to an older version, and the accessor went with RCU.
nsd-class := $(if $(call nsd-grep,nsproxy.h,task_nsproxy,y),l,m)
# Of those whose readers hold task_lock() the module knows the ones since 5.10.
ifeq ($(nsd-class)$(wildcard $(srctree)/include/linux/rcupdate_wait.h),m)
$(error nsproxy_defer: setns() does not wait for RCU on this kernel; of such kernels the module is for those since 5.10, and this one is older)
endif
