package email

import (
	"fmt"
	"mime/quotedprintable"
	"net/http"
	"strings"
	"testing"

	"tributary.dev/libs/channel"
)

// longMail is a mail of about 50 kB as a person's mail program makes it, who answers on top of a long exchange: text and
// HTML, both with all that was written before.
func longMail(tb testing.TB) string {
	tb.Helper()
	const rounds = 11
	said := `Hello,

thank you for your patience. We have asked the carrier again: the parcel left our warehouse on Monday and was last
seen in Zürich on Tuesday at 17:42. It holds three pairs of shoes (size 42½, black), for which you paid € 129.90.

– It was to be delivered on Wednesday between 8 and 12, and nobody was at home.
– The carrier keeps it for seven days at the post office, where you can fetch it with the card in your letter box.
– If you would rather have it sent to another address, tell us the street, the town and the postal code.

Should anything be missing or damaged, please send us a photograph of the box and of its label, and we send
another one at once. You don't have to pay for that, and nothing has to come back.

Kind regards, viele Grüße
Shop help · 1 Example Street, 8000 Zürich · https://shop.example/help?order=A-1001&lang=en`
	plain, page := &strings.Builder{}, &strings.Builder{}
	plain.WriteString("It has not come yet.\n\n")
	page.WriteString(`<div dir="ltr">It has not come yet.</div>`)
	for depth := range rounds {
		marks := strings.Repeat(">", depth)
		at := fmt.Sprintf("On Thu, Mar %d, 2026 at 9:%02d AM Shop help", 27-depth, 56-3*depth)
		fmt.Fprintf(plain, "%s %s <help@shop.example> wrote:\n%s\n", marks, at, marks)
		fmt.Fprintf(page, `<br><div class="gmail_quote"><div dir="ltr" class="gmail_attr">%s &lt;<a href="mailto:help@shop.example">help@shop.example</a>&gt; wrote:<br></div>`+
			`<blockquote class="gmail_quote" style="margin:0px 0px 0px 0.8ex;border-left:1px solid rgb(204,204,204);padding-left:1ex"><div dir="ltr">`, at)
		for line := range strings.SplitSeq(said, "\n") {
			fmt.Fprintf(plain, "%s> %s\n", marks, line)
			fmt.Fprintf(page, `<p class="MsoNormal" style="margin:0in 0in 0.0001pt;font-size:11pt;font-family:Calibri,sans-serif"><span lang="EN-GB">%s</span></p>`, line)
		}
		page.WriteString("</div>\n")
	}
	page.WriteString(strings.Repeat("</blockquote></div>\n", rounds))
	var mail strings.Builder
	mail.WriteString("Delivered-To: help@shop.example\r\nFrom: Ada <ada@example.com>\r\nTo: help@shop.example\r\nDate: Fri, 27 Mar 2026 10:00:00 +0000\r\n" +
		"Message-ID: <m-1@example.com>\r\nSubject: Re: Your order A-1001\r\nIn-Reply-To: <answer@shop.example>\r\nReferences: <first@example.com> <answer@shop.example>\r\n" +
		"MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=\"b\"\r\n\r\n")
	for _, part := range [][2]string{{"plain", plain.String()}, {"html", page.String()}} {
		mail.WriteString("--b\r\nContent-Type: text/" + part[0] + "; charset=\"UTF-8\"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
		w := quotedprintable.NewWriter(&mail)
		if _, err := w.Write([]byte(part[1])); err != nil {
			tb.Fatal(err)
		}
		if err := w.Close(); err != nil {
			tb.Fatal(err)
		}
		mail.WriteString("\r\n")
	}
	mail.WriteString("--b--\r\n")
	return mail.String()
}

func BenchmarkNormaliseLongMail(b *testing.B) {
	a, mail := made(b, nil), []byte(longMail(b))
	b.SetBytes(int64(len(mail)))
	b.ReportAllocs()
	for b.Loop() {
		result, err := a.Normalise(&channel.Request{Ref: connectionID, Header: http.Header{"Content-Type": {"message/rfc822"}}, Body: mail})
		if err != nil || len(result.Events) != 1 || result.Events[0].Content.Text != "It has not come yet." {
			b.Fatalf("%v: %d events", err, len(result.Events))
		}
	}
}
