package providers

import (
	"bytes"
	"fmt"
	"html"
	"mime/quotedprintable"
	"strings"
)

// longLetter is a mail of about 50 kB as a person's mail program makes it, who answers on top of a long exchange: text and
// HTML, both with all that was written before, the older the deeper it is quoted. But for its top it is made once.
type longLetter struct {
	text, html []byte // what is quoted, in quoted-printable
}

const letterBoundary = "0000000000001f4be3063f1a7c52"

func newLongLetter(mailbox string) longLetter {
	const rounds = 11
	var plain, rich strings.Builder
	for depth := 1; depth <= rounds; depth++ {
		who, address := "Shop help", mailbox
		if depth%2 == 0 {
			who, address = "Person", "person@mail.example"
		}
		said := fmt.Sprintf("On Thu, Mar %d, 2026 at 9:%02d AM %s", 28-depth, 59-3*depth, who)
		marks := strings.Repeat(">", depth-1)
		fmt.Fprintf(&plain, "%s\n%s\n%s\n", marks, strings.TrimSpace(fmt.Sprintf("%s %s <%s> wrote:", marks, said, address)), marks)
		fmt.Fprintf(&rich, `<br><div class="gmail_quote gmail_quote_container"><div dir="ltr" class="gmail_attr">%s &lt;<a href="mailto:%s">%s</a>&gt; wrote:<br></div>`+
			`<blockquote class="gmail_quote" style="margin:0px 0px 0px 0.8ex;border-left:1px solid rgb(204,204,204);padding-left:1ex"><div dir="ltr">`, said, address, address)
		for _, line := range strings.Split(letterRound, "\n") {
			fmt.Fprintf(&plain, "%s> %s\n", marks, line)
			if line == "" {
				rich.WriteString(`<p class="MsoNormal" style="margin:0in 0in 0.0001pt;font-size:11pt;font-family:Calibri,sans-serif"><br></p>`)
				continue
			}
			fmt.Fprintf(&rich, `<p class="MsoNormal" style="margin:0in 0in 0.0001pt;font-size:11pt;font-family:Calibri,sans-serif"><span lang="EN-GB">%s</span></p>`, html.EscapeString(line))
		}
		rich.WriteString("</div>\n")
	}
	rich.WriteString(strings.Repeat("</blockquote></div>\n", rounds))
	return longLetter{text: quotable(plain.String()), html: quotable(rich.String())}
}

// letterRound is what one of them wrote.
const letterRound = `Hello,

thank you for your patience. We have asked the carrier again: the parcel left our warehouse on Monday and was last
seen in Zürich on Tuesday at 17:42. It holds three pairs of shoes (size 42½, black), for which you paid € 129.90.

– It was to be delivered on Wednesday between 8 and 12, and nobody was at home.
– The carrier keeps it for seven days at the post office, where you can fetch it with the card in your letter box.
– If you would rather have it sent to another address, tell us the street, the town and the postal code.

Should anything be missing or damaged, please send us a photograph of the box and of its label, and we send
another one at once. You don't have to pay for that, and nothing has to come back.

Kind regards, viele Grüße
Shop help · 1 Example Street, 8000 Zürich · https://shop.example/help?order=A-1001&lang=en`

// quotable is text in quoted-printable, its lines ended as a mail's are.
func quotable(text string) []byte {
	var b bytes.Buffer
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(text)) // a buffer takes everything
	_ = w.Close()
	return b.Bytes()
}

func (l longLetter) size() int { return len(l.text) + len(l.html) }

// write what follows a mail's sender and date: text on top of what was quoted.
func (l longLetter) write(b *bytes.Buffer, person int, text string) {
	fmt.Fprintf(b, "Subject: Re: Your order A-1001\r\nIn-Reply-To: <answer-%d@shop.example>\r\nReferences: <first-%d@mail.example> <answer-%d@shop.example>\r\n", person, person, person)
	b.WriteString("Content-Type: multipart/alternative; boundary=\"" + letterBoundary + "\"\r\n\r\n")
	part := func(kind, top string, quoted []byte) {
		b.WriteString("--" + letterBoundary + "\r\nContent-Type: " + kind + "; charset=\"UTF-8\"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
		b.Write(quotable(top))
		b.Write(quoted)
		b.WriteString("\r\n")
	}
	part("text/plain", text+"\n", l.text)
	part("text/html", `<div dir="ltr">`+html.EscapeString(text)+"</div>\n", l.html)
	b.WriteString("--" + letterBoundary + "--\r\n")
}
