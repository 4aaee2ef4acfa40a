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
