# SPDX-License-Identifier: GPL-2.0-only
#
# Is a kernel such that a count of one is exact? That takes two fixes of Linux 4.18, which
# stable kernels got, too: mntput() looks at mnt_ns first and decrements then, and a path
# walk that got a mount asks whether it is doomed. (Class L needs none of that.) And a mount
# must have its flags where they belong; some vendors have a hypervisor keep them. Says of
# fs/namespace.c what is not so, and what to do.
/^(<<<<<<<|>>>>>>>) / && !broken { broken = "has a merge that is not finished (line " NR "): finish it" }
/\r$/ && !broken { broken = "has the line ends of DOS: convert the tree, or check it out anew with git -c core.autocrlf=false" }
{
	for (rest = $0; match(rest, /CONFIG_(RUSTUH_)?(KDP|RKP)_NS[A-Z_]*/); rest = substr(rest, RSTART + RLENGTH)) {
		name = substr(rest, RSTART, RLENGTH)
		if (!(name in options)) {
			options[name]
			option = option (option ? " and " : "") name
			unset = unset " -U" name
		}
	}
}
/^[a-z].*[ *]mntput_no_expire\([^;]*$/ { place = "put" }
/^[a-z].*[ *]__legitimize_mnt\([^;]*$/ { place = "walk" }
/^}/ { place = "" }
place == "put" && !order && /mnt_ns\)/ { order = "right" }
place == "put" && !order && /mnt_(add|dec)_count|this_cpu/ { order = "wrong" }
place == "walk" && /MNT_DOOMED/ { asks = 1 }
END {
	if (broken)
		print "fs/namespace.c " broken
	else if (class != "L" && option)
		print "with " option " a mount has its flags and superblock elsewhere: turn that off, and take its code out with unifdef -m" unset " fs/*.[ch] (package unifdef)"
	else if (class != "L") {
		if (order != "right") {
			what = "mntput() does not look at mnt_ns before it decrements"
			commits = "9ea0a46ca2c3"
		}
		if (!asks) {
			what = what (what ? ", and " : "") "a path walk does not see that a mount is doomed"
			commits = commits (commits ? " and " : "") "119e1ef80ecf"
		}
		if (what)
			print what ": bring " commits " to the tree, which 4.9.178, 4.14.78 and 4.19 have"
	}
}
