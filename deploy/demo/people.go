package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// people are those in the story and what they write. Every name, number, word of weight and secret is
// invented anew for each run: whatever of it is found in a file afterwards, this run has leaked.
type people struct {
	annaName, annaUser string
	benName, benUser   string
	carlaNumber        string

	anna          []string // in order; the third is edited, the fourth deleted, the fifth comes with a file
	annaCorrected string
	annaFile      string
	fileContent   string
	ben           string
	annaInGroup   string
	carla         []string // the second comes with a picture
	picture       string
	replyToAnna   string
	replyToCarla  string
	annaAgain     string

	slackSecret, botToken, twilioToken string

	canaries []string
}

func invent() *people {
	p := &people{}
	anna, ben, carla := p.word(), p.word(), p.word()
	p.annaName, p.annaUser = "Annabelle "+anna, p.id("U0")
	p.benName, p.benUser = "Benedikt "+ben, p.id("U0")
	p.carlaNumber = "+" + p.digits("4179", 7)

	street := p.word() + "gasse"
	p.anna = []string{
		"Guten Tag, hier ist " + p.annaName,
		"meine Bestellung " + p.word() + " fehlt",
		"sie ging an die " + street + " 23a",
		"bitte rufen Sie nicht an, sonst weckt es " + p.word(),
		"hier das Foto vom leeren Paket von " + p.word(),
	}
	p.annaCorrected = "sie ging an die " + street + " 32b"
	p.annaFile = "leeres-paket-" + strings.ToLower(p.word()) + ".txt"
	p.canaries = append(p.canaries, p.annaFile)
	p.fileContent = "Im Paket war nur Luft, schreibt " + p.annaName
	p.ben = "Benedikt " + ben + " fragt in der Gruppe nach"
	p.annaInGroup = "und Annabelle " + anna + " antwortet in der Gruppe"
	p.carla = []string{"Carla " + carla + " hier: ist mein Kleid fertig?", "ich komme um Viertel nach vier mit " + p.word()}
	p.picture = "JPEG of Carla " + carla + " in the dress"
	p.replyToAnna = "Guten Tag " + p.annaName + ", das Paket kommt morgen"
	p.replyToCarla = "Liebe Carla " + carla + ", es ist fertig"
	p.annaAgain = "Ich bin es noch einmal, " + p.annaName

	p.slackSecret, p.botToken, p.twilioToken = p.digits("", 32), "xoxb-"+p.digits("", 24), p.digits("", 32)
	return p
}

// word invents one: five syllables.
func (p *people) word() string {
	var b strings.Builder
	for range 5 {
		b.WriteByte("bdfgklmnprstvz"[rand.IntN(14)])
		b.WriteByte("aeiou"[rand.IntN(5)])
	}
	return p.canary(strings.ToUpper(b.String()[:1]) + b.String()[1:])
}

// id invents one as Slack makes them.
func (p *people) id(prefix string) string {
	return p.canary(fmt.Sprintf("%s%08X", prefix, rand.Uint32()))
}

func (p *people) digits(prefix string, n int) string {
	b := []byte(prefix)
	for range n {
		b = append(b, byte('0'+rand.IntN(10)))
	}
	return p.canary(string(b))
}

// canary keeps what is looked for in the end.
func (p *people) canary(s string) string {
	p.canaries = append(p.canaries, s)
	return s
}
