package shopify

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"tributary.dev/libs/channel"
)

// Every 64-bit id comes out as it went in, as a number and as text.
func TestIDsStayExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Min(1).Draw(t, "id")
		for _, written := range []string{fmt.Sprint(n), fmt.Sprintf("%q", fmt.Sprint(n))} {
			var o order
			require.NoError(t, channel.DecodeObject([]byte(`{"id":`+written+`,"line_items":[{"id":`+written+`}],"customer":{"id":`+written+`}}`), &o))
			s := o.state()
			require.Equal(t, fmt.Sprint(n), s.ID)
			require.Equal(t, fmt.Sprint(n), s.Lines[0].ID)
			require.Equal(t, fmt.Sprint(n), string(o.Customer.ID))
		}
	})
}

// Every amount comes out as it was written, also one that no float holds, and with the zeros behind it.
func TestAmountsStayExact(t *testing.T) {
	decimal := rapid.StringMatching(`-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,4})?`)
	rapid.Check(t, func(t *rapid.T) {
		a := decimal.Draw(t, "amount")
		for _, written := range []string{a, `"` + a + `"`} {
			var o order
			require.NoError(t, channel.DecodeObject([]byte(`{"id":1,"currency":"CHF","total_price":`+written+`,"line_items":[{"price":`+written+`}]}`), &o))
			s := o.state()
			require.Equal(t, a, s.Total)
			require.Equal(t, a, s.Lines[0].Price)
		}
	})
}

func TestSumsAreExact(t *testing.T) {
	decimal := rapid.StringMatching(`-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,4})?`)
	rapid.Check(t, func(t *rapid.T) {
		var amounts []amount
		want := new(big.Rat)
		for _, a := range rapid.SliceOfN(decimal, 1, 8).Draw(t, "amounts") {
			amounts = append(amounts, amount(a))
			r, ok := new(big.Rat).SetString(a)
			require.True(t, ok)
			want.Add(want, r)
		}
		text := sum(amounts)
		got, ok := new(big.Rat).SetString(text)
		require.True(t, ok, text)
		require.Zero(t, want.Cmp(got), "%v: %s", amounts, text)
		require.Regexp(t, `^-?[0-9]+(\.[0-9]+)?$`, text)
	})
}

func TestWhatIsNoIDOrAmountStaysEmpty(t *testing.T) {
	for _, written := range []string{`null`, `true`, `"x"`, `-1`, `0`, `1.5`, `1e3`, `"1e3"`, `[]`, `{}`, `999999999999999999999`, `"0012"`, `"gid://shopify/Order/1"`} {
		var o order
		require.NoError(t, channel.DecodeObject([]byte(`{"id":`+written+`}`), &o))
		require.Empty(t, o.ID, written)
	}
	for _, written := range []string{`null`, `true`, `"CHF 3"`, `1e3`, `"1,50"`, `[]`, `""`, `"` + strings.Repeat("9", 25) + `"`} {
		var o order
		require.NoError(t, channel.DecodeObject([]byte(`{"id":1,"currency":"CHF","total_price":`+written+`}`), &o))
		require.Empty(t, o.state().Total, written)
	}
	var o order
	require.NoError(t, channel.DecodeObject([]byte(`{"id":1,"currency":"francs","total_price":"1.00"}`), &o))
	require.Empty(t, o.state().Total, "an amount of no currency")
}

// Of the states of one second the one that is further on is placed behind the others, and each has its own place.
func TestStatesOfOneSecondAreInTheOrderOfALife(t *testing.T) {
	at := moment{time.Date(2026, 3, 14, 15, 0, 0, 0, time.UTC)}
	life := []order{
		{ID: "1", UpdatedAt: at, FinancialStatus: "pending"},
		{ID: "1", UpdatedAt: at, FinancialStatus: "authorized"},
		{ID: "1", UpdatedAt: at, FinancialStatus: "paid"},
		{ID: "1", UpdatedAt: at, FinancialStatus: "paid", FulfillmentStatus: "partial", Fulfillments: make([]fulfilment, 1)},
		{ID: "1", UpdatedAt: at, FinancialStatus: "paid", FulfillmentStatus: "fulfilled", Fulfillments: make([]fulfilment, 2)},
		{ID: "1", UpdatedAt: at, FinancialStatus: "partially_refunded", FulfillmentStatus: "fulfilled", Fulfillments: make([]fulfilment, 2), Refunds: make([]refund, 1)},
		{ID: "1", UpdatedAt: at, FinancialStatus: "refunded", FulfillmentStatus: "fulfilled", Fulfillments: make([]fulfilment, 2), Refunds: make([]refund, 2)},
		{ID: "1", UpdatedAt: at, FinancialStatus: "refunded", FulfillmentStatus: "fulfilled", ClosedAt: at},
		{ID: "1", UpdatedAt: at, FinancialStatus: "voided", CancelledAt: at},
	}
	last := at.UnixMicro() - 1
	for _, o := range life {
		now := o.state().order
		require.Greater(t, now, last)
		require.Less(t, now, at.Add(time.Second).UnixMicro(), "never into the next second")
		last = now
	}
	require.Less(t, last+moments, at.Add(time.Second).UnixMicro(), "with room for when it was seen")
	crowded := order{ID: "1", UpdatedAt: at, FinancialStatus: "voided", FulfillmentStatus: "restocked", CancelledAt: at, Refunds: make([]refund, 900)}
	require.Less(t, crowded.state().order+moments, at.Add(time.Second).UnixMicro())
}

func TestWhoIsNamed(t *testing.T) {
	for what, test := range map[string]struct {
		body string
		want []channel.Identity
	}{
		"a mail address in any case": {`{"email":" Ada@Example.COM "}`, []channel.Identity{{Kind: "email", Value: "ada@example.com"}}},
		"a number as it is written":  {`{"phone":"+41 (0) 79 123 45 67"}`, []channel.Identity{{Kind: "phone", Value: "+41791234567"}}},
		"both":                       {`{"email":"a@b.ch","phone":"+41791234567"}`, []channel.Identity{{Kind: "email", Value: "a@b.ch"}, {Kind: "phone", Value: "+41791234567"}}},
		"the customer's, where it has none of its own": {`{"email":"","customer":{"email":"a@b.ch","phone":"+41791234567","id":7}}`,
			[]channel.Identity{{Kind: "email", Value: "a@b.ch"}, {Kind: "phone", Value: "+41791234567"}}},
		"the shop's customer, where there is neither": {`{"phone":"079 123 45 67","customer":{"id":7,"email":"none"}}`,
			[]channel.Identity{{Kind: "shopify_customer", Value: shop + ":7"}}},
		"not whom it is sent to": {`{"shipping_address":{"phone":"+41791234567"},"billing_address":{"phone":"+41791234567"}}`, nil},
		"nobody":                 {`{"email":"a@b@c","phone":"+0","customer":null}`, nil},
	} {
		t.Run(what, func(t *testing.T) {
			var o order
			require.NoError(t, channel.DecodeObject([]byte(test.body), &o))
			require.Equal(t, test.want, partyOf(o.Email, o.Phone, o.Locale, o.Customer).identities(shop))
		})
	}
}

func TestWhatIsNoJSON(t *testing.T) {
	for _, body := range []string{"", "null", "[]", `"x"`, "{", `{"id":1}{`, "\x00"} {
		require.Error(t, channel.DecodeObject([]byte(body), &order{}), body)
	}
	raw, err := json.Marshal(map[string]any{"id": 1, "refunds": map[string]int{"a": 1}, "customer": []int{1}, "name": map[string]int{}})
	require.NoError(t, err)
	var o order
	require.NoError(t, channel.DecodeObject(raw, &o))
	require.Equal(t, "1", string(o.ID))
}

func TestConfig(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	require.Equal(t, "https://a.myshopify.com", DefaultConfig().address("a.myshopify.com"))
	err := (&Config{URL: "ftp://x", APIVersion: "latest"}).Validate()
	for _, setting := range []string{"TRIBUTARY_SHOPIFY_URL", "TRIBUTARY_SHOPIFY_API_VERSION", "TRIBUTARY_SHOPIFY_POLL_EVERY"} {
		require.ErrorContains(t, err, setting)
	}
}
