// Package spelling finds the word that somebody meant, for errors that suggest it.
package spelling

import "strings"

// Distance is the number of insertions, deletions, replacements and swaps of neighbours from a to b (optimal string
// alignment, Damerau 1964), in bytes.
func Distance(a, b string) int {
	before, last, now := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		now[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			now[j] = min(last[j]+1, now[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], before[j-2]+1)
			}
		}
		before, last, now = last, now, before
	}
	return last[len(b)]
}

// Nearest returns the candidate closest to word, capitals aside, or "" if none is close.
func Nearest(word string, candidates []string) string {
	best, least := "", len(word)/2+2
	for _, c := range candidates {
		if d := Distance(strings.ToLower(word), strings.ToLower(c)); d < least {
			best, least = c, d
		}
	}
	return best
}
