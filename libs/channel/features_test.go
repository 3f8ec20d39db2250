package channel_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
)

func TestAccountsOfTheirChannel(t *testing.T) {
	for name, accounts := range map[string]struct{ good, bad []string }{
		"slack": {
			good: []string{"T0DEMO", "E01ABCDEF", "T12"},
			bad:  []string{"", "T1", "t0demo", "C0DEMO", "+41445550100", "T0DEMO\n", "xT0DEMO", "T0DEMO x"},
		},
		"shopify": {
			good: []string{"acme-boots.myshopify.com", "0.myshopify.com"},
			bad:  []string{"", "acme-boots", "Acme.myshopify.com", "-a.myshopify.com", "a.myshopify.com.evil.example", "evil.example/a.myshopify.com", "a.myshopify.com\n"},
		},
		"sms": {
			good: []string{"+41445550100", "12345", "whatsapp:+14155550100", "Shop", "3M", "123Inkt", "Front Desk1"},
			bad:  []string{"", "+0445550100", "044 555 01 00", "0445550100", "+1", "+41 44 555 01 00", "Name too long", "whatsapp:12345", "12", "+"},
		},
	} {
		f, ok := channel.Lookup(name)
		require.True(t, ok)
		for _, id := range accounts.good {
			require.Empty(t, f.AccountFault(id), "%s %q", name, id)
		}
		for _, id := range accounts.bad {
			require.NotEmpty(t, f.AccountFault(id), "%s %q", name, id)
		}
	}
}

func TestSettingsOfTheirChannel(t *testing.T) {
	sms, _ := channel.Lookup("sms")
	for setting, values := range map[string]struct{ good, bad []string }{
		"provider":            {good: []string{"twilio", "vonage"}, bad: []string{"", "carrier-pigeon", "twilio2", "twilio|vonage"}},
		"messages_per_second": {good: []string{"1", "0.01", "0.5", "10.25", "1000"}, bad: []string{"", "0", "0.0", "0.00", "-1", "fast", "1e3", "1001", "Inf"}},
		"help_reply":          {good: []string{"Call 123", strings.Repeat("é", 1600)}, bad: []string{"", strings.Repeat("a", 1601)}},
		"region":              {bad: []string{"CH"}},
	} {
		for _, value := range values.good {
			require.Empty(t, sms.SettingFault(setting, value), "%s %q", setting, value)
		}
		for _, value := range values.bad {
			require.NotEmpty(t, sms.SettingFault(setting, value), "%s %q", setting, value)
		}
	}
	slack, _ := channel.Lookup("slack")
	require.Equal(t, "is not known", slack.SettingFault("provider", "twilio"))
}

func TestProvidersOfAChannelDiffer(t *testing.T) {
	sms, _ := channel.Lookup("sms")
	for _, settings := range []map[string]string{nil, {"provider": ""}, {"provider": "twilio"}} {
		twilio := sms.For(settings)
		require.Equal(t, []string{"account_sid", "auth_token"}, twilio.Credentials)
		require.Equal(t, []string{"auth_token", "previous_auth_token"}, twilio.SignedWith)
		require.Empty(t, twilio.SettingFault("help_reply", "Call 123"))
		require.Equal(t, 1600, twilio.TextLimit)
	}
	vonage := sms.For(map[string]string{"provider": "vonage"})
	require.Equal(t, []string{"application_id", "private_key", "signature_secret"}, vonage.Credentials)
	require.Equal(t, []string{"signature_secret", "previous_signature_secret"}, vonage.SignedWith)
	require.Equal(t, "is not known", vonage.SettingFault("help_reply", "Call 123"), "Vonage could not be told it")
	require.Empty(t, vonage.SettingFault("messages_per_second", "10"))
	require.Equal(t, 1000, vonage.TextLimit)
	require.Empty(t, sms.SettingFault("help_reply", "Call 123"), "the channel's own are as they were")

	sms.Providers = map[string]channel.Provider{"x": {Credentials: []string{"a"}, SignedWith: []string{"a"}, WithoutSettings: []string{"colour"}}}
	require.ErrorContains(t, sms.Validate(), "colour")
}

func TestPatternsThatAreNoneAreNamed(t *testing.T) {
	f, _ := channel.Lookup("sms")
	require.NoError(t, f.Validate())
	f.ExternalID, f.Settings = "[", map[string]string{"pace": "("}
	err := f.Validate()
	require.ErrorContains(t, err, "external_id")
	require.ErrorContains(t, err, "pace")
}
