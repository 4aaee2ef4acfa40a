# SPDX-License-Identifier: GPL-2.0-only
#
# What lives of real programs take, and what they wait for, from bench.sh: a group
# of bars for each, above its time and below the grace periods that are waited for.

set terminal svg size 960,720 font "sans,14" background "white"
set datafile separator tab
set datafile missing NaN
set style data histograms
set style histogram clustered gap 2
set style fill solid border -1
set boxwidth 1
set grid ytics
set xtics rotate by -30
set key at screen 0.99, screen 0.95
set lmargin 10
set rmargin 16
set bmargin 6

modes = "stock expedited safe all"
of(mode, column) = sprintf("<awk -F'\t' '$2 == \"%s\" { print $1 \"\t\" $%d }' '%s'", mode, column, lives)

set output where . ".svg"
set multiplot layout 2,1
set title "Lives on " . name
set logscale y
set ylabel "ms"
plot for [mode in modes] of(mode, 6) using 2:xtic(1) title mode
unset title
unset key
# Nobody waits where there is no bar.
set ylabel "grace periods waited for"
set yrange [0.5:*]
plot for [mode in modes] of(mode, 4) using 2:xtic(1) title mode
unset multiplot
