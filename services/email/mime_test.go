package email

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/standin"
)

func TestHTMLIsKeptAsItCame(t *testing.T) {
	page := `<p onclick="alert(1)" style="position:fixed">Hello</p><script>alert(1)</script><img src="https://evil.example/p.gif"><!-- x -->`
	e := one(t, "Content-Type: text/html; charset=utf-8", page)
	assert.Equal(t, page, strings.TrimSpace(e.Content.HTML), "it is sanitised whenever it is shown")
	assert.Equal(t, "Hello", e.Content.Text)

	long := `<p title="t" style="color:red">Hello</p>` + strings.Repeat(`<img alt="a" src="data:image/png;base64,`+strings.Repeat("A", 10_000)+`">`, 50) +
		`<style>` + strings.Repeat("p{color:red}", 50_000) + `</style><script>` + strings.Repeat("x<y;", 50_000) + `</script><!--` + strings.Repeat("c", 10_000) + `--><p>Bye &amp; so</p>`
	e = one(t, "Content-Type: text/html; charset=utf-8", long)
	want := `<p title="t" style="color:red">Hello</p>` + strings.Repeat(`<img alt="a">`, 50) + `<p>Bye &amp; so</p>`
	assert.Equal(t, want, strings.TrimSpace(e.Content.HTML), "what is never shown does not cost what is")
	assert.Empty(t, e.Content.Attachments)
}

func TestAMailThatIsTooMuchIsKeptWhole(t *testing.T) {
	nested := strings.Builder{}
	for i := range 5_000 {
		fmt.Fprintf(&nested, "Content-Type: multipart/mixed; boundary=%d\n\n--%d\n", i, i)
	}
	many := "Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\nx\n", 20_000)
	for name, mail := range map[string]string{"multiparts in multiparts": nested.String(), "very many parts": many} {
		t.Run(name, func(t *testing.T) {
			fields, body, _ := strings.Cut(mail, "\n\n")
			e := one(t, "Subject: bomb\n"+fields, body)
			assert.Equal(t, "bomb", e.Content.Subject)
			require.Len(t, e.Content.Attachments, 1)
			assert.Equal(t, "message.eml", e.Content.Attachments[0].Name)
			assert.Contains(t, string(e.Content.Attachments[0].Data), body)
		})
	}
}

func TestAnEventHasRoomForEveryMail(t *testing.T) {
	event := func(fields, body string) channel.Event {
		e := one(t, fields, body)
		n := len(e.Content.Text) + len(e.Content.FullText) + len(e.Content.HTML) + len(e.Content.Subject) + len(strings.Join(e.Content.References, ""))
		for _, a := range e.Content.Attachments {
			n += len(a.Name) + len(a.Ref) + 300
		}
		for k, v := range e.Technical {
			n += len(k) + len(v)
		}
		assert.Less(t, n, 700<<10, "768 KiB are all that an event has")
		return e
	}
	long := event("Content-Type: text/html; charset=utf-8\nSubject: "+strings.Repeat("s", 10_000), "<p>"+strings.Repeat("Grüße ", 200_000)+"</p>")
	assert.Empty(t, long.Content.HTML, "half a page would be another")
	assert.True(t, strings.HasPrefix(long.Content.FullText, "Grüße Grüße"))
	require.Len(t, long.Content.Attachments, 1)
	assert.Equal(t, "whole", long.Content.Attachments[0].Ref)

	var files strings.Builder
	for i := range 300 {
		fmt.Fprintf(&files, "--b\nContent-Type: text/plain; name=\"%s%d.txt\"\n\n%d\n", strings.Repeat("n", 400), i, i)
	}
	crowd := event("Content-Type: multipart/mixed; boundary=b", files.String()+"--b--\n")
	assert.Len(t, crowd.Content.Attachments, maxFiles+1, "and the mail itself, in which the others are")
	for _, a := range crowd.Content.Attachments[:maxFiles] {
		assert.LessOrEqual(t, len(a.Name), maxName)
		assert.True(t, strings.HasSuffix(a.Name, ".txt"))
	}
	var references strings.Builder
	for i := range 3_000 {
		fmt.Fprintf(&references, " <%s.%d@x>", strings.Repeat("r", 200), i)
	}
	refs := event("References:"+references.String(), "x").Content.References
	assert.Len(t, refs, maxReferences)
	assert.True(t, strings.HasSuffix(refs[0], ".0@x"), "the first names the thread")
}

func TestAPostmarkMailThatIsTooLongIsKeptAsFiles(t *testing.T) {
	text := strings.Repeat("word ", 100_000)
	result, err := made(t, nil).Normalise(&channel.Request{Ref: connectionID, Header: standin.PostmarkAuthorisation("x"),
		Body: standin.PostmarkInbound("m@x", "ada@example.com", "help@shop.example", "Long", text, nil)})
	require.NoError(t, err)
	c := result.Events[0].Content
	assert.Equal(t, maxText, len(c.Text))
	require.Len(t, c.Attachments, 1)
	assert.Equal(t, "message.txt", c.Attachments[0].Name)
	assert.Equal(t, text, string(c.Attachments[0].Data))
}

func TestNamesOfFilesLeadNowhere(t *testing.T) {
	for name, want := range map[string]string{
		"../../etc/passwd": "passwd", `C:\Users\ada\photo.png`: "photo.png", "": "unnamed.pdf", "..": "unnamed.pdf", "/": "unnamed.pdf", " a b ": "a b",
		strings.Repeat("ü", 200) + ".pdf": strings.Repeat("ü", 125) + ".pdf",
	} {
		assert.Equal(t, want, fileName(file{name: name, contentType: "application/pdf"}))
	}
}

func TestSendersAreWrittenInManyWays(t *testing.T) {
	for from, want := range map[string][2]string{
		"Ada@Example.COM": {"ada@example.com", ""}, "<ada@example.com>": {"ada@example.com", ""}, `"Lovelace, Ada" <ada@example.com>`: {"ada@example.com", "Lovelace, Ada"},
		"Lovelace, Ada <ada@example.com>": {"ada@example.com", "Lovelace, Ada"}, "ada@example.com (Ada)": {"ada@example.com", "Ada"},
		"=?utf-8?Q?J=C3=BCrgen?= <j@example.com>": {"j@example.com", "Jürgen"}, "=?iso-8859-1?Q?J=FCrgen_M.?= <j@example.com>": {"j@example.com", "Jürgen M."},
		`"=?utf-8?B?SsO8cmdlbg==?=" <j@example.com>`: {"j@example.com", "Jürgen"}, "Ada <ada@example.com>, Bob <bob@example.com>": {"ada@example.com", "Ada"},
		"Ada [Sales] <ada@example.com>": {"ada@example.com", "Ada [Sales]"}, "J\xfcrgen <j@example.com>": {"j@example.com", "Jürgen"},
	} {
		e := one(t, "From: "+from)
		assert.Equal(t, want[0], e.Author.Value, from)
		name := ""
		if e.Profile != nil {
			name = e.Profile.Name
		}
		assert.Equal(t, want[1], name, from)
	}
	for _, nobody := range []string{"", "Ada", "undisclosed-recipients:;", "@example.com", "ada@", "<>", "ada@exa mple.com"} {
		result := raw(t, "From: "+nobody)
		assert.Empty(t, result.Events, nobody)
		assert.Equal(t, []string{"message.from"}, result.Faults)
	}
	assert.Equal(t, "sender@example.com", one(t, "From: nobody\nSender: sender@example.com").Author.Value)
}

func TestOnlyTheTrustedHostProves(t *testing.T) {
	fields := "Authentication-Results: evil.example; dmarc=pass\nAuthentication-Results: MX.shop.example; spf=softfail; dkim=none (x; dmarc=pass); dmarc = fail; x=pass; spf/1=PASS\nFrom: ada@example.com\n\nx"
	facts := func(trusted string) map[string]string {
		result, err := made(t, nil).Normalise(&channel.Request{Ref: "c", Header: http.Header{"Content-Type": {"message/rfc822"}}, Body: []byte(fields), Settings: map[string]string{"trusted_host": trusted}})
		require.NoError(t, err)
		return result.Events[0].Technical
	}
	assert.Equal(t, map[string]string{"spf": "pass", "dkim": "none", "dmarc": "fail"}, facts("mx.shop.example"))
	assert.Empty(t, facts(""), "without one, anybody could write what they like")
	assert.Empty(t, facts("mx.other.example"))
}

func TestWhatIsNotWhatItPromisesIsAnError(t *testing.T) {
	for contentType, bodies := range map[string][]string{
		"message/rfc822":   {"", "CANARY without a header", "\r\n\r\nCANARY"},
		"application/json": {"", "CANARY", "[]", "{}", `"CANARY"`, `{"Subject":"CANARY"}`},
		"text/plain":       {"From: ada@example.com\n\nCANARY", "{}"},
		"":                 {"From: ada@example.com\n\nCANARY"},
	} {
		for _, body := range bodies {
			_, err := made(t, nil).Normalise(&channel.Request{Header: http.Header{"Content-Type": {contentType}}, Body: []byte(body)})
			if assert.Error(t, err, "%s: %s", contentType, body) {
				assert.NotContains(t, err.Error(), "CANARY")
			}
		}
	}
}

func TestSettingsNameTheirFaults(t *testing.T) {
	assert.NoError(t, DefaultConfig().Validate())
	c := Config{PostmarkURL: "x", Address: "25", Hostname: "a b", Certificate: "x"}
	err := c.Validate()
	for _, name := range []string{"POSTMARK_URL", "SMTP_ADDRESS", "SMTP_HOSTNAME", "SMTP_CERTIFICATE", "SMTP_CONNECTIONS"} {
		assert.ErrorContains(t, err, "TRIBUTARY_EMAIL_"+name)
	}
	for _, c := range []Config{{SMTPAuthorities: "/nowhere"}, {SMTPAuthorities: "mime_test.go"}, {Certificate: "/nowhere", Key: "/nowhere"}} {
		_, err := New(c, Deps{})
		assert.Error(t, err)
	}
}

func BenchmarkNormalise(b *testing.B) {
	for _, size := range []int{2 << 10, 50 << 10} {
		line := strings.Repeat("A line of some words, and no more. ", 2) + "\n"
		text := strings.Repeat(line, size/2/len(line)+1)
		mail := []byte("From: Ada <ada@example.com>\nSubject: x\nMessage-ID: <a@x>\nMIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/plain; charset=utf-8\n\n" +
			text + "\n--b\nContent-Type: text/html; charset=utf-8\n\n<p>" + strings.ReplaceAll(text, "\n", "<br>\n") + "</p>\n--b--\n")
		a := &Adapter{cfg: *DefaultConfig(), deps: Deps{Secret: []byte("x")}}
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			b.SetBytes(int64(len(mail)))
			for b.Loop() {
				if _, err := a.Normalise(&channel.Request{Ref: "c", Header: http.Header{"Content-Type": {"message/rfc822"}}, Body: mail}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestTextIsReadWhateverItsCharsetIsSaidToBe(t *testing.T) {
	for name, c := range map[string]struct{ contentType, raw, want string }{
		"UTF-8 that is called Latin-1":    {"text/plain; charset=iso-8859-1", "Gr\xc3\xbc\xc3\x9fe", "Grüße"},
		"UTF-8 that is called ASCII":      {"text/plain; charset=us-ascii", "Gr\xc3\xbc\xc3\x9fe", "Grüße"},
		"Latin-1 that is called ASCII":    {"text/plain; charset=us-ascii", "Gr\xfc\xdfe", "Grüße"},
		"Latin-1 that is called UTF-8":    {"text/plain; charset=utf-8", "Gr\xfc\xdfe", "Grüße"},
		"Latin-1 without a name":          {"text/plain", "Gr\xfc\xdfe", "Grüße"},
		"Windows-1252 that is Latin-1":    {"text/plain; charset=iso-8859-1", "\x84Gr\xfc\xdfe\x93", "„Grüße“"},
		"a name in quotes":                {"text/plain; charset=\"'ISO-8859-15'\"", "\xa4 5", "€ 5"},
		"a name that nobody knows":        {"text/plain; charset=x-klingon", "Gr\xfc\xdfe", "Grüße"},
		"Japanese by escapes":             {"text/plain; charset=iso-2022-jp", "\x1b$B$3$s$K$A$O\x1b(B", "こんにちは"},
		"Japanese":                        {"text/plain; charset=Shift_JIS", "\x82\xb1\x82\xf1\x82\xc9\x82\xbf\x82\xcd", "こんにちは"},
		"Chinese":                         {"text/plain; charset=gb2312", "\xc4\xe3\xba\xc3", "你好"},
		"Russian":                         {"text/plain; charset=koi8-r", "\xf0\xd2\xc9\xd7\xc5\xd4", "Привет"},
		"Russian that is called Latin-1?": {"text/plain; charset=windows-1251", "\xcf\xf0\xe8\xe2\xe5\xf2", "Привет"},
		"UTF-16":                          {"text/plain; charset=utf-16le", "H\x00i\x00", "Hi"},
		"a page that says it itself":      {"text/html", "<html><head><meta charset=koi8-r></head><body>\xf0\xd2\xc9\xd7\xc5\xd4</body></html>", "Привет"},
		"NUL":                             {"text/plain", "a\x00b", "a\uFFFDb"},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, one(t, "Content-Type: "+c.contentType, c.raw).Content.Text)
		})
	}
	russian := "\xf7\xd3\xc5 \xcc\xc0\xc4\xc9 \xd2\xcf\xd6\xc4\xc1\xc0\xd4\xd3\xd1 \xd3\xd7\xcf\xc2\xcf\xc4\xce\xd9\xcd\xc9 \xc9 \xd2\xc1\xd7\xce\xd9\xcd\xc9 \xd7 \xd3\xd7\xcf\xc5\xcd \xc4\xcf\xd3\xd4\xcf\xc9\xce\xd3\xd4\xd7\xc5 \xc9 \xd0\xd2\xc1\xd7\xc1\xc8."
	assert.Equal(t, "Все люди рождаются свободными и равными в своем достоинстве и правах.", one(t, "Subject: no charset", russian).Content.Text, "a longer text tells what it is")
}

func TestPartsAreFoundAsTheyAreWritten(t *testing.T) {
	const text = "Content-Type: text/plain\n\n"
	for name, c := range map[string]struct {
		contentType, body string
		want              string
	}{
		"a preamble and an epilogue":         {"multipart/mixed; boundary=b", "Preamble\n--b\n" + text + "one\n--b--\nEpilogue\n--b\n" + text + "two", "one"},
		"a boundary in quotes":               {`multipart/mixed; boundary="=_a b:c"`, "--=_a b:c\n" + text + "one\n--=_a b:c--\n", "one"},
		"space behind a delimiter":           {"multipart/mixed; boundary=b", "--b \t\r\n" + text + "one\r\n--b-- \r\n", "one"},
		"a boundary that begins another":     {"multipart/mixed; boundary=b", "--b\nContent-Type: multipart/alternative; boundary=bb\n\n--bb\n" + text + "one\n--bb--\n--b--", "one"},
		"the same boundary inside":           {"multipart/mixed; boundary=b", "--b\nContent-Type: multipart/mixed; boundary=b\n\n--b\n" + text + "one\n--b--\n", "one"},
		"no line before a delimiter":         {"multipart/mixed; boundary=b", "--b\n" + text + "--b--", ""},
		"a part without a header":            {"multipart/mixed; boundary=b", "--b\n\none: two\n\nthree\n--b--", "one: two\n\nthree"},
		"a part without even an empty line":  {"multipart/mixed; boundary=b", "--b\nJust text\n--b--", "Just text"},
		"a line that looks like a delimiter": {"multipart/mixed; boundary=b", "--b\n" + text + "--bc\n--b x\n--\tb\none\n--b--", "--bc\n--b x\n--\tb\none"},
		"upper case":                         {"MULTIPART/MIXED; BOUNDARY=b", "--b\nCONTENT-TYPE: TEXT/PLAIN\n\none\n--b--", "one"},
		"RFC 2231":                           {"multipart/mixed; boundary*0=b; boundary*1=c", "--bc\n" + text + "one\n--bc--", "one"},
		"no boundary at all":                 {"multipart/mixed", "one", ""},
		"a type that is none":                {"multipart", "one", ""},
		"a digest":                           {"multipart/digest; boundary=b", "--b\n\nFrom: x\n\none\n--b--", ""},
		"several texts":                      {"multipart/mixed; boundary=b", "--b\n" + text + "one\n--b\n" + text + "two\n--b--", "one\ntwo"},
		"two alternatives":                   {"multipart/alternative; boundary=b", "--b\n" + text + "one\n--b\nContent-Type: text/html\n\n<p>one</p>\n--b--", "one"},
	} {
		t.Run(name, func(t *testing.T) {
			content := one(t, "Content-Type: "+c.contentType, c.body).Content
			assert.Equal(t, c.want, content.Text)
			if c.want == "" && strings.Contains(c.body, "one") {
				assert.NotEmpty(t, content.Attachments, "what is no text is a file")
			}
		})
	}
}

// TestNoMailTakesLong: each of these is a square, or worse, to who reads it without care.
func TestNoMailTakesLong(t *testing.T) {
	const n = 200_000
	for name, mail := range map[string]string{
		"a field of very many lines":     "Subject: x\n" + strings.Repeat(" x\n", n) + "\nx",
		"very many fields":               strings.Repeat("A: x\n", n) + "\nx",
		"very many references":           "References: " + strings.Repeat("<a@x> ", n/2) + "\n\nx",
		"very many recipients":           "To: " + strings.Repeat("a@example.com, ", n/4) + "b@example.com\n\nx",
		"very many encoded words":        "Subject: " + strings.Repeat("=?utf-8?q?x?= ", n/4) + "\n\nx",
		"very many quotations":           "Subject: x\n\n" + strings.Repeat("> x\ny\n", n),
		"very many lines that attribute": "Subject: x\n\n" + strings.Repeat("On Monday 1 x wrote:\n", n/4),
		"very many blocks":               "Subject: x\n\n" + strings.Repeat("From: x\nSent: y\n", n/4),
		"very many elements":             "Content-Type: text/html\n\n" + strings.Repeat("<blockquote><div>", n),
		"an element that never ends":     "Content-Type: text/html\n\n<a href=\"" + strings.Repeat("x", 4*n),
		"very many attributes":           "Content-Type: text/html\n\n<p " + strings.Repeat("a=b ", n) + ">x",
		"very many styles":               "Content-Type: text/html\n\n<p style=\"" + strings.Repeat("color:red;", n/4) + "\">x",
		"very many lines of dashes":      "Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--bx\n", n) + "--b\n\nx\n--b--",
		"very many comments":             "Authentication-Results: mx.shop.example; " + strings.Repeat("(", n) + "\nFrom: " + strings.Repeat("(", n) + "\n\nx",
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			_, err := made(t, nil).Normalise(&channel.Request{Ref: "c", Header: http.Header{"Content-Type": {"message/rfc822"}}, Body: []byte("From: ada@example.com\n" + mail),
				Settings: map[string]string{"trusted_host": "mx.shop.example"}})
			assert.NoError(t, err)
			assert.Less(t, time.Since(began), 5*time.Second)
		})
	}
}
