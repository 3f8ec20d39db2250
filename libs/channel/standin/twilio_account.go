package standin

import (
	"net/http"
	"slices"
)

// accountRoutes answer who the account is, and which numbers it has.
func (t *Twilio) accountRoutes() {
	t.mux.HandleFunc("GET /2010-04-01/Accounts/{account}", func(w http.ResponseWriter, r *http.Request) {
		if !t.authorised(w, r) {
			return
		}
		t.carry(w, r, "accounts.fetch", func() (int, any) {
			return 200, map[string]any{"sid": t.accountSID, "status": "active", "type": "Full", "friendly_name": "Stand-in"}
		})
	})
	t.mux.HandleFunc("GET /2010-04-01/Accounts/{account}/IncomingPhoneNumbers.json", func(w http.ResponseWriter, r *http.Request) {
		if !t.authorised(w, r) {
			return
		}
		t.carry(w, r, "numbers.list", func() (int, any) {
			number := r.URL.Query().Get("PhoneNumber")
			t.mu.Lock()
			defer t.mu.Unlock()
			found := []any{}
			if t.numbers == nil || slices.Contains(t.numbers, number) {
				found = append(found, map[string]any{"phone_number": number, "account_sid": t.accountSID})
			}
			return 200, map[string]any{"incoming_phone_numbers": found, "page": 0}
		})
	})
}

// Own makes these the account's numbers; before, it has every number.
func (t *Twilio) Own(numbers ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.numbers = append([]string{}, numbers...)
}
