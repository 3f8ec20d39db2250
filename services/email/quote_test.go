package email

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// answers of mail programs, as they write them: what is new, and all that there is.
func TestTheNewPartOfAnAnswer(t *testing.T) {
	const quote = "\n> We have sent it again.\n>\n> Shop help\n"
	for name, full := range map[string]string{
		"Gmail, English":              "On Thu, Mar 12, 2026 at 9:14 AM Shop help <help@shop.example> wrote:\n" + quote,
		"Gmail, over two lines":       "On Thu, Mar 12, 2026 at 9:14 AM Shop help (and a long name)\n<help@shop.example> wrote:\n" + quote,
		"Gmail, German":               "Am Do., 12. März 2026 um 09:14 Uhr schrieb Shop help <help@shop.example>:\n" + quote,
		"Gmail, French":               "Le jeu. 12 mars 2026 à 09:14, Shop help <help@shop.example> a écrit :\n" + quote,
		"Gmail, Spanish":              "El jue, 12 mar 2026 a las 9:14, Shop help (<help@shop.example>) escribió:\n" + quote,
		"Gmail, Italian":              "Il giorno gio 12 mar 2026 alle ore 09:14 Shop help <help@shop.example> ha scritto:\n" + quote,
		"Gmail, Portuguese":           "Em qui., 12 de mar. de 2026 às 09:14, Shop help <help@shop.example> escreveu:\n" + quote,
		"Gmail, Dutch":                "Op do 12 mrt 2026 om 09:14 schreef Shop help <help@shop.example>:\n" + quote,
		"Gmail, Swedish":              "Den tors 12 mars 2026 kl 09:14 skrev Shop help <help@shop.example>:\n" + quote,
		"Gmail, Norwegian":            "tor. 12. mars 2026 kl. 09:14 skrev Shop help <help@shop.example>:\n" + quote,
		"Gmail, Polish":               "czw., 12 mar 2026 o 09:14 Shop help <help@shop.example> napisał(a):\n" + quote,
		"Gmail, Russian":              "чт, 12 мар. 2026 г. в 09:14, Shop help <help@shop.example>:\n" + quote,
		"Gmail, Japanese":             "2026年3月12日(木) 9:14 Shop help <help@shop.example>:\n" + quote,
		"Gmail, Turkish":              "Shop help <help@shop.example>, 12 Mar 2026 Per, 09:14 tarihinde şunu yazdı:\n" + quote,
		"Apple Mail, English":         "> On 12 Mar 2026, at 09:14, Shop help <help@shop.example> wrote:\n> \n> We have sent it again.\n",
		"Apple Mail, not quoted":      "On 12 Mar 2026, at 09:14, Shop help <help@shop.example> wrote:\n" + quote,
		"Apple Mail, German":          "Am 12.03.2026 um 09:14 schrieb Shop help <help@shop.example>:\n" + quote,
		"Apple Mail, French":          "Le 12 mars 2026 à 09:14, Shop help <help@shop.example> a écrit :\n" + quote,
		"Thunderbird, English":        "On 12/03/2026 09:14, Shop help wrote:\n> We have sent it again.\n",
		"Thunderbird, German":         "Am 12.03.26 um 09:14 schrieb Shop help:\n> We have sent it again.\n",
		"Thunderbird, French":         "Le 12/03/2026 à 09:14, Shop help a écrit :\n> We have sent it again.\n",
		"Yahoo":                       "On Thursday, March 12, 2026 at 09:14:00 AM GMT+1, Shop help <help@shop.example> wrote:\n" + quote,
		"Yahoo, German":               "Am Donnerstag, 12. März 2026 um 09:14:00 MEZ hat Shop help <help@shop.example> Folgendes geschrieben:\n" + quote,
		"a language not known here":   "2026. 3. 12, Shop help <help@shop.example> xyzzy 9:14:\n" + quote,
		"Outlook, English":            "________________________________\nFrom: Shop help <help@shop.example>\nSent: Thursday, March 12, 2026 9:14 AM\nTo: Ada <ada@example.com>\nSubject: Your order\n\nWe have sent it again.\n",
		"Outlook, without line":       "From: Shop help <help@shop.example>\nSent: Thursday, March 12, 2026 9:14 AM\nTo: Ada\nSubject: Your order\n\nWe have sent it again.\n",
		"Outlook, German":             "Von: Shop help <help@shop.example>\nGesendet: Donnerstag, 12. März 2026 09:14\nAn: Ada\nBetreff: Bestellung\n\nWe have sent it again.\n",
		"Outlook, French":             "De : Shop help <help@shop.example>\nEnvoyé : jeudi 12 mars 2026 09:14\nÀ : Ada\nObjet : commande\n\nWe have sent it again.\n",
		"Outlook, Spanish":            "De: Shop help <help@shop.example>\nEnviado: jueves, 12 de marzo de 2026 9:14\nPara: Ada\nAsunto: pedido\n\nWe have sent it again.\n",
		"Outlook, Italian":            "Da: Shop help <help@shop.example>\nInviato: giovedì 12 marzo 2026 09:14\nA: Ada\nOggetto: ordine\n\nWe have sent it again.\n",
		"Outlook, Dutch":              "Van: Shop help <help@shop.example>\nVerzonden: donderdag 12 maart 2026 09:14\nAan: Ada\nOnderwerp: bestelling\n\nWe have sent it again.\n",
		"Outlook, Swedish":            "Från: Shop help <help@shop.example>\nSkickat: den 12 mars 2026 09:14\nTill: Ada\nÄmne: order\n\nWe have sent it again.\n",
		"Outlook of old":              "-----Original Message-----\nFrom: Shop help\nSent: Thursday\n\nWe have sent it again.\n",
		"Outlook of old, German":      "-----Ursprüngliche Nachricht-----\nVon: Shop help\n\nWe have sent it again.\n",
		"Outlook for iOS":             "Get Outlook for iOS<https://aka.ms/o0ukef>\n________________________________\nFrom: Shop help <help@shop.example>\nSent: Thursday, March 12, 2026 9:14:00 AM\nTo: Ada\nSubject: x\n\nWe have sent it again.\n",
		"a signature":                 "-- \nAda Lovelace\n+41 79 123 45 67\n",
		"a signature and a quotation": "-- \nAda Lovelace\n\nOn Thu, Mar 12, 2026 at 9:14 AM Shop help <help@shop.example> wrote:\n" + quote,
		"a quotation and a signature": "On Thu, Mar 12, 2026 at 9:14 AM Shop help <help@shop.example> wrote:\n" + quote + "\n-- \nAda\n",
		"an iPhone":                   "Sent from my iPhone\n",
		"an iPhone, German":           "Von meinem iPhone gesendet\n",
		"an iPhone, French":           "Envoyé de mon iPhone\n",
		"a Samsung, Spanish":          "Enviado desde mi Samsung Galaxy\n",
		"an iPhone and a quotation":   "Sent from my iPhone\n\n> On Mar 12, 2026, at 9:14 AM, Shop help <help@shop.example> wrote:\n> \n> We have sent it again.\n",
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, "Thank you.\n\nAll is well now.", newText("Thank you.\n\nAll is well now.\n\n"+full, "Re: Your order"))
		})
	}
}

func TestAnAnswerBelowWhatItQuotes(t *testing.T) {
	assert.Equal(t, "Here it is.", newText("On 12/03/2026 09:14, Shop help wrote:\n> Please send the number.\n\nHere it is.\n", "Re: x"))
	assert.Equal(t, "Here it is.", newText("> Please send the number.\n\nHere it is.\n\n-- \nAda\n", "Re: x"))
}

func TestWhenUnsureAllIsKept(t *testing.T) {
	for name, full := range map[string]string{
		"answers between the lines": "On 12/03/2026 09:14, Shop help wrote:\n> Which size?\n\nLarge.\n\n> Which colour?\n\nBlue.",
		"text before and after":     "Hello,\n\n> Which size?\n\nLarge, please.",
		"a poem with marks":         "My poem:\n\n> Roses are red\n> violets are blue",
		"nothing but a quotation":   "On 12/03/2026 09:14, Shop help wrote:\n> We have sent it.",
		"a line with dashes":        "One\n--\n" + strings.Repeat("and much more text\n", 20) + "the end",
		"a letter that says from":   "From: the bottom of my heart\nThank you for all.",
		"only a signature":          "-- \nAda",
		"somebody wrote":            "Yesterday I wrote:\nplease send it.",
		"a header block of its own": "From: Bob\nSent: Monday\nTo: Ada\nSubject: what I got\n\nIs this from you?",
		"a forwarded mail":          "Look at this.\n\n---------- Forwarded message ---------\nFrom: Bob <bob@example.com>\nDate: Mon\nSubject: x\nTo: Ada\n\nIt is broken.",
		"forwarded by Apple":        "Look.\n\nBegin forwarded message:\n\nFrom: Bob\nSubject: x\nDate: Mon\nTo: Ada\n\nIt is broken.",
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, full, newText(full, "x")) })
	}
	outlook := "Look.\n\nFrom: Bob <bob@example.com>\nSent: Monday\nTo: Ada\nSubject: Broken\n\nIt is broken."
	for _, subject := range []string{"Fwd: Broken", "FW: Broken", "WG: Kaputt", "TR: cassé", "RV: roto", "I: rotto"} {
		assert.Equal(t, outlook, newText(outlook, subject), "what is passed on is what the mail is about")
	}
}

func TestTheTextOfHTMLKeepsWhatQuotes(t *testing.T) {
	gmail := `<div dir="ltr">Thank you</div><br><div class="gmail_quote"><div dir="ltr" class="gmail_attr">On Thu, Mar 12, 2026 at 9:14 AM Shop &lt;<a href="mailto:help@shop.example">help@shop.example</a>&gt; wrote:<br></div><blockquote class="gmail_quote">We sent it.<br>Shop</blockquote></div>`
	outlook := `<html><body><p class="MsoNormal">Thank you</p><div style="border-top:solid #E1E1E1 1.0pt"><p><b>From:</b> Shop &lt;help@shop.example&gt;<br><b>Sent:</b> Thursday<br><b>To:</b> Ada<br><b>Subject:</b> x</p></div><p>We sent it.</p></body></html>`
	apple := `Thank you<div><br><blockquote type="cite"><div>On 12 Mar 2026, at 09:14, Shop &lt;help@shop.example&gt; wrote:</div><br><div>We sent it.</div></blockquote></div>`
	thunderbird := `<p>Thank you</p><div class="moz-cite-prefix">Am 12.03.26 um 09:14 schrieb Shop:<br></div><blockquote type="cite" cite="mid:x"><p>We sent it.</p></blockquote>`
	for name, page := range map[string]string{"Gmail": gmail, "Outlook": outlook, "Apple Mail": apple, "Thunderbird": thunderbird} {
		e := one(t, "Content-Type: text/html; charset=utf-8\nSubject: Re: x", page)
		assert.Equal(t, "Thank you", e.Content.Text, name)
		assert.Contains(t, e.Content.FullText, "We sent it.", name)
	}
}

func FuzzNewText(f *testing.F) {
	f.Add("Hello\n\nOn Thu wrote:\n> x\n-- \nAda", "Re: x")
	f.Fuzz(func(t *testing.T, full, subject string) {
		if text := newText(full, subject); strings.TrimSpace(full) != "" && text == "" {
			t.Error("nothing is left of a mail that said something")
		}
	})
}
