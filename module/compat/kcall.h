/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef NSD_COMPAT_KCALL_H
#define NSD_COMPAT_KCALL_H

/*
 * Calls to kernel functions whose address is known only at run time.
 *
 * With CONFIG_X86_KERNEL_IBT the kernel takes the ENDBR instruction out of
 * functions whose address it never takes, and an indirect call to such a
 * function is fatal on hardware that checks. A static call is patched into a
 * direct one, which needs no ENDBR, nor a retpoline.
 */
#ifdef CONFIG_HAVE_STATIC_CALL_INLINE
#include <linux/static_call.h>

#define DEFINE_KCALL(name, type) \
	DEFINE_STATIC_CALL_NULL(name, type)
#define kcall(name) static_call(name)
#define kcall_set(name, address) \
	static_call_update(name, (typeof(&STATIC_CALL_TRAMP(name)))(address))
#else
#define DEFINE_KCALL(name, type) static typeof(type) *name
#define kcall(name) name
#define kcall_set(name, address) (name = (typeof(name))(address))
#endif

#endif /* NSD_COMPAT_KCALL_H */
