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
 *
 * So it is on arm64 with CONFIG_ARM64_BTI_KERNEL and its BTI instruction; but there
 * are no static calls. What may go anywhere is a RET, by whatever register.
 *
 * Neither is an indirect call to the compiler, so that with CONFIG_CFI_CLANG nobody
 * compares types, which a function whose address is never taken does not tell.
 */
#ifdef CONFIG_HAVE_STATIC_CALL_INLINE
#include <linux/static_call.h>

#define DEFINE_KCALL(name, type) \
	DEFINE_STATIC_CALL_NULL(name, type)
#define kcall(name) static_call(name)
#define kcall_set(name, address) \
	static_call_update(name, (typeof(&STATIC_CALL_TRAMP(name)))(address))
#elif defined(CONFIG_ARM64)
#define DEFINE_KCALL(name, type)						\
	static unsigned long name##_address __used;				\
	asm(".pushsection .text, \"ax\"\n"					\
	    ".type " #name "_jump, %function\n"					\
	    #name "_jump:\n"							\
	    "	adrp	x16, " #name "_address\n"				\
	    "	ldr	x16, [x16, :lo12:" #name "_address]\n"			\
	    "	ret	x16\n"							\
	    ".size " #name "_jump, . - " #name "_jump\n"			\
	    ".popsection\n");							\
	extern typeof(type) name##_jump
#define kcall(name) name##_jump
#define kcall_set(name, address) (name##_address = (address))
#else
#define DEFINE_KCALL(name, type) static typeof(type) *name
#define kcall(name) name
#define kcall_set(name, address) (name = (typeof(name))(address))
#endif

#endif /* NSD_COMPAT_KCALL_H */
