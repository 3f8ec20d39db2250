package sms

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/standin"
)

// The example of https://www.twilio.com/docs/usage/security#validating-requests.
func TestVerifyTwiliosOwnExample(t *testing.T) {
	u, err := url.Parse("https://example.com/myapp.php?foo=1&bar=2")
	require.NoError(t, err)
	form := url.Values{
		"CallSid": {"CA1234567890ABCDE"}, "Caller": {"+14158675310"}, "Digits": {"1234"},
		"From": {"+14158675310"}, "To": {"+18005551212"},
	}
	r := &channel.Request{
		URL: u, Body: []byte(form.Encode()),
		Header: http.Header{"X-Twilio-Signature": {"L/OH5YylLD5NRKLltdqwSvS0BnU="}},
	}
	require.NoError(t, New(*DefaultConfig(), http.DefaultClient).Verify(r, channel.Secrets{"12345"}))
}

func TestVerifyWithAndWithoutTheDefaultPort(t *testing.T) {
	a := New(*DefaultConfig(), http.DefaultClient)
	form := url.Values{"MessageSid": {"SM1"}, "Body": {"hello"}}
	for _, signed := range []string{"https://mesh.example/webhooks/sms/c1?p=2", "https://mesh.example:443/webhooks/sms/c1?p=2"} {
		for _, seen := range []string{"https://mesh.example/webhooks/sms/c1?p=2", "https://mesh.example:443/webhooks/sms/c1?p=2"} {
			u, err := url.Parse(seen)
			require.NoError(t, err)
			r := &channel.Request{URL: u, Body: []byte(form.Encode()), Header: standin.TwilioHeader("secret", signed, form)}
			assert.NoError(t, a.Verify(r, channel.Secrets{"secret"}), "signed %s, seen as %s", signed, seen)
		}
	}
	for _, seen := range []string{"https://other.example/webhooks/sms/c1?p=2", "http://mesh.example/webhooks/sms/c1?p=2", "https://mesh.example/webhooks/sms/c1?p=3", "https://mesh.example/webhooks/sms/c2?p=2"} {
		u, err := url.Parse(seen)
		require.NoError(t, err)
		r := &channel.Request{URL: u, Body: []byte(form.Encode()), Header: standin.TwilioHeader("secret", "https://mesh.example/webhooks/sms/c1?p=2", form)}
		assert.Error(t, a.Verify(r, channel.Secrets{"secret"}), seen)
	}
}

func TestEveryValueOfAParameterIsSigned(t *testing.T) {
	a := New(*DefaultConfig(), http.DefaultClient)
	u, _ := url.Parse("https://mesh.example/webhooks/sms/c1")
	form := url.Values{"Body": {"b", "a"}, "MessageSid": {"SM1"}}
	header := standin.TwilioHeader("secret", u.String(), form)
	assert.NoError(t, a.Verify(&channel.Request{URL: u, Header: header, Body: []byte(form.Encode())}, channel.Secrets{"secret"}))
	for _, forged := range []string{"Body=b&MessageSid=SM1", "Body=b&Body=a&Body=c&MessageSid=SM1", "Body=b&Body=a&MessageSid=SM1&From=%2B1"} {
		assert.Error(t, a.Verify(&channel.Request{URL: u, Header: header, Body: []byte(forged)}, channel.Secrets{"secret"}), forged)
	}
}

func TestAProviderThatIsNotKnownIsRefused(t *testing.T) {
	a := New(*DefaultConfig(), http.DefaultClient)
	r := &channel.Request{Settings: map[string]string{"provider": "carrier-pigeon"}}
	var e *channel.Error
	require.ErrorAs(t, a.Verify(r, channel.Secrets{"secret"}), &e)
	assert.Equal(t, channel.ClassUnverified, e.Class)
	_, err := a.Normalise(r)
	assert.Error(t, err)
}

func TestConfigNamesTheSetting(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	err := (&Config{TwilioURL: "api.twilio.com", VonageURL: "ftp://api.nexmo.com"}).Validate()
	assert.ErrorContains(t, err, "TRIBUTARY_SMS_TWILIO_URL")
	assert.ErrorContains(t, err, "TRIBUTARY_SMS_VONAGE_URL")
}
