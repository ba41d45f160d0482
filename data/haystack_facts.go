package data

import (
	"fmt"
	"slices"
	"strings"
)

var passkeyFiller = []string{"The grass is green.", "The sky is blue.", "The sun is yellow.", "Here we go.", "There and back again."}

var givenNames = strings.Fields(`Ada Amina Anders Beatriz Bilal Carla Chen Clara Daan Dalia Elif Emil Farah Felix Grace Hana Hugo Imani Ines Ivan Jana Jonas
	Kaito Karim Lea Liam Lucia Malik Mara Mateo Mei Mila Nadia Nico Noor Olga Omar Paula Pedro Priya Quinn Rafael Rosa Sami Sofia Tariq Uma Vera Yusuf Zoe`)

var familyNames = strings.Fields(`Abbott Almeida Bauer Becker Bianchi Castro Dahl Demir Dubois Eriksen Fischer Fontana Garcia Haddad Hansen Ito Jansen Kaya
	Keller Kim Kovacs Larsen Lopez Marino Meyer Moreau Nagy Nakamura Nguyen Novak Okafor Olsen Ortega Park Patel Petrov Quist Rossi Sato Schmidt Silva
	Singh Tanaka Torres Ueda Varga Weber Wolff Yilmaz Zhang`)

// people returns n different names.
func people(n int, random *sequence) []string {
	order := make([]uint32, len(givenNames)*len(familyNames))
	permute(order, random.next())
	names := make([]string, n)
	for i := range names {
		names[i] = givenNames[int(order[i])%len(givenNames)] + " " + familyNames[int(order[i])/len(givenNames)]
	}
	return names
}

// passkeys: five digits, another number for each person.
func passkeys(n int, random *sequence) []fact {
	facts, used := make([]fact, n), map[uint64]bool{}
	for i, name := range people(n, random) {
		key := 10000 + random.below(90000)
		for used[key] {
			key = 10000 + random.below(90000)
		}
		used[key] = true
		facts[i] = fact{
			text:     fmt.Sprintf("%s's pass key is %d. Remember it. %d is the pass key for %s.", name, key, key, name),
			question: fmt.Sprintf("what is the pass key for %s?", name),
			key:      fmt.Sprint(key),
		}
	}
	return facts
}

var (
	needlePlaces = strings.Fields(`harbour museum library bakery station garden market chapel theatre lighthouse observatory windmill bridge
		orchard vineyard castle monastery square pier cinema`)
	needleDeeds = []string{
		"watch the boats come in", "eat a warm roll with salt", "listen to the old organ", "count the herons", "drink mint tea on the steps",
		"look for the painted door", "ride the wooden tram", "feed the grey cats", "read the brass plates", "climb to the upper gallery",
		"ask for the green map", "wait for the noon bell", "taste the dark honey", "follow the chalk marks", "sketch the broken arch",
		"buy a paper kite", "sit under the largest plane tree", "walk round it barefoot", "whistle into the well", "hear the choir rehearse",
	}
)

// needles: what a person says is best done at a place; the question repeats the person and the place.
func needles(n int, random *sequence) []fact {
	facts := make([]fact, n)
	for i, name := range people(n, random) {
		place := needlePlaces[random.below(uint64(len(needlePlaces)))]
		deed := needleDeeds[random.below(uint64(len(needleDeeds)))]
		facts[i] = fact{
			text:     fmt.Sprintf("According to %s, the best thing to do at the %s is to %s.", name, place, deed),
			question: fmt.Sprintf("what is the best thing to do at the %s, according to %s?", place, name),
			key:      name,
		}
	}
	return facts
}

// composed returns sentences that say nothing in particular, some thousands of them.
func composed() []string {
	subjects := []string{
		"The report", "Her neighbour", "The committee", "A careful reader", "The second draft", "Most of the winter", "The old engine", "Every student",
		"The river", "His letter", "The city", "A long argument", "The workshop", "Nobody in the room", "The first attempt", "The map",
	}
	verbs := []string{
		"seemed to", "was said to", "would later", "had begun to", "could hardly", "used to", "was expected to", "slowly came to", "did not", "tried to",
	}
	ends := []string{
		"change the plan.", "make much of a difference.", "explain what had happened.", "leave before the evening.", "agree with the numbers.",
		"keep its promise.", "grow out of a small idea.", "matter to anyone else.", "cost more than it was worth.", "follow the usual path.",
		"depend on the weather.", "surprise the people who had built it.", "lead to another question.", "look different from a distance.",
		"survive the first year.", "return to where it had started.",
	}
	var out []string
	for _, s := range subjects {
		for _, v := range verbs {
			for _, e := range ends {
				out = append(out, s+" "+v+" "+e)
			}
		}
	}
	return slices.Clip(out)
}
