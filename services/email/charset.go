package email

import (
	"io"
	"strings"
	"unicode/utf8"

	"github.com/gogs/chardet"
	"golang.org/x/net/html/charset"
	"golang.org/x/text/encoding/charmap"
)

// decoded is the text of a part. UTF-8 is told by its bytes, whatever is stated: text of another charset hardly ever
// looks like it. Else what is stated counts, what an HTML page says of itself, what its bytes look like, and at last
// Windows-1252.
func decoded(raw []byte, stated string, page bool) string {
	stated = strings.ToLower(strings.Trim(stated, ` "'`))
	encoding, name := charset.Lookup(stated)
	if utf8.Valid(raw) && !switches(name) {
		return string(raw)
	}
	if encoding == nil && page {
		if of, said, _ := charset.DetermineEncoding(raw, "text/html"); said != "utf-8" && said != "windows-1252" {
			encoding = of
		}
	}
	if encoding == nil || name == "utf-8" {
		encoding, _ = charset.Lookup(looksLike(raw))
	}
	if encoding == nil {
		return windows1252(raw)
	}
	text, err := encoding.NewDecoder().Bytes(raw)
	if err != nil {
		return windows1252(raw)
	}
	return string(text)
}

// switches tells charsets whose bytes are valid UTF-8 and mean something else.
func switches(name string) bool {
	return strings.HasPrefix(name, "utf-16") || strings.HasPrefix(name, "iso-2022") || name == "hz-gb-2312" || name == "replacement"
}

// looksLike is the charset of a text that states none, as far as that can be told: where no other is half as likely.
func looksLike(raw []byte) string {
	const enough, likely = 40, 40
	//bound:limit bytes of a text by which its charset is told | {bytes} | the rest is taken for the same
	const most = 16 << 10
	if len(raw) < enough {
		return ""
	}
	found, err := chardet.NewTextDetector().DetectAll(raw[:min(len(raw), most)])
	if err != nil || len(found) == 0 || found[0].Confidence < likely || len(found) > 1 && 2*found[1].Confidence > found[0].Confidence {
		return ""
	}
	return found[0].Charset
}

func windows1252(raw []byte) string {
	out, err := charmap.Windows1252.NewDecoder().Bytes(raw)
	if err != nil {
		return clean(string(raw))
	}
	return string(out)
}

// charsetReader reads encoded words.
func charsetReader(label string, input io.Reader) (io.Reader, error) {
	return charset.NewReaderLabel(label, input)
}

func isASCII(text string) bool {
	for _, c := range []byte(text) {
		if c > 127 {
			return false
		}
	}
	return true
}
