package email

import (
	"net/textproto"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestEncodedBodiesAreDecodedHoweverBadly(t *testing.T) {
	for body, want := range map[string]string{
		"Gr=C3=BC=C3=9fe =\r\nundso  \r\n\tx\t\n": "Grüße undso\r\n\tx\n", "a=3D=\nb": "a=b", "8-bit ü\x00": "8-bit ü\x00", "": "", "=": "=", "a=": "a=", "a=4": "a=4", "100 = 100": "100 = 100",
		"a=\r\n": "a", "a= \r\nb": "a=\r\nb", "=zz\r\n=C3=BC": "=zz\r\nü", "a\r\r\nb": "a\r\nb", "a\rb": "a\rb",
	} {
		assert.Equal(t, want, string(decodedPart("quoted-printable", body).content), "%q", body)
	}
	for body, want := range map[string]string{
		"SGVs\r\nbG8=\r\n": "Hello", "SGVsbG8": "Hello", "SGVs bG8=": "Hello", "SGVs*bG8=": "Hello", "": "",
	} {
		assert.Equal(t, want, string(decodedPart("Base64", body).content), "%q", body)
	}
	assert.True(t, decodedPart("x-uuencode", "begin").encoded)
	for _, encoding := range []string{"", "7bit", "8BIT", "binary"} {
		assert.Equal(t, "a=3D\xff", string(decodedPart(encoding, "a=3D\xff").content), encoding)
	}
}

func decodedPart(encoding, body string) *part {
	p := &part{}
	p.decode(textproto.MIMEHeader{"Content-Transfer-Encoding": {encoding}}, []byte(body))
	return p
}

// Whatever is decoded the short way is what the patient one makes of it.
func FuzzTransferred(f *testing.F) {
	for _, body := range []string{"Gr=C3=BC=\r\n x \r\ny", "a=3D \t\r\n", "a=\n=\r\n=", "a\r\r\n\r", "SGVsbG8=", "SGVs\nbG8=\n", "QQ==", "QR==\n\n", "\x00\x7f\xff=0a"} {
		f.Add(body, true)
		f.Add(body, false)
	}
	f.Fuzz(func(t *testing.T, body string, quoted bool) {
		encoding := "base64"
		if quoted {
			encoding = "quoted-printable"
		}
		content, ok := transferred(encoding, []byte(body))
		if !ok {
			return
		}
		patient := &part{content: []byte(body)}
		patient.patiently(textproto.MIMEHeader{"Content-Transfer-Encoding": {encoding}}, []byte(body), true)
		assert.Equal(t, string(patient.content), string(content), "%q", body)
	})
}
