package shopify

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"tributary.dev/libs/channel"
)

const (
	// pageSize is how many orders are asked for at once; Shopify gives 250 at most.
	pageSize = 100
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 64 << 20
	// maxPages of orders that all changed in one second.
	maxPages = 50
	// fullPause is how long to wait where a shop's limit is nearly reached: it lets two calls a second pass.
	fullPause = time.Second
)

// PollEvery is the setting.
func (a *Adapter) PollEvery() time.Duration { return a.cfg.PollEvery }

// Poll asks for the orders that changed since a time, oldest change first. It goes on from the newest change that it
// was told of: what a shop shows more than a page of within one second is followed page by page.
func (a *Adapter) Poll(ctx context.Context, conn *channel.Connection, since time.Time) (result channel.Result, next time.Time, more bool, err error) {
	shop, token := conn.ExternalID, conn.Credentials["access_token"]
	if !shopDomain.MatchString(shop) || token == "" {
		return result, since, false, &channel.Error{Class: channel.ClassReauthorise, Code: "no_credentials"}
	}
	n := &normaliser{topic: "poll", shop: shop, version: a.cfg.APIVersion, polled: a.now()}
	next = since
	var newest time.Time
	query := url.Values{
		"status": {"any"}, "limit": {strconv.Itoa(pageSize)}, "order": {"updated_at asc"},
		"updated_at_min": {since.UTC().Truncate(time.Second).Format(time.RFC3339)},
	}
	for range maxPages {
		orders, page, err := a.orders(ctx, shop, token, query)
		if err != nil {
			return channel.Result{}, since, false, err
		}
		for i := range orders {
			n.order(&orders[i])
			at := orders[i].UpdatedAt.Time
			if at.IsZero() {
				continue
			}
			if at.Before(newest) { // what comes later may be older than where to go on from
				return channel.Result{}, since, false, &channel.Error{Class: channel.ClassReject, Code: "not_in_order"}
			}
			newest, next = at, later(next, at)
		}
		if page == "" || next.After(since) {
			return n.result, next, page != "", nil
		}
		query = url.Values{"limit": {strconv.Itoa(pageSize)}, "page_info": {page}}
	}
	return channel.Result{}, since, false, &channel.Error{Class: channel.ClassReject, Code: "too_many_at_once"}
}

// orders asks for one page; page names the next one, where there is one
// (https://shopify.dev/docs/api/admin-rest/usage/pagination).
func (a *Adapter) orders(ctx context.Context, shop, token string, query url.Values) (orders []order, page string, err error) {
	address := a.cfg.address(shop) + "/admin/api/" + a.cfg.APIVersion + "/orders.json?" + query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, "", &channel.Error{Class: channel.ClassReject, Code: "request"}
	}
	request.Header.Set("X-Shopify-Access-Token", token)
	request.Header.Set("Accept", "application/json")
	response, err := a.http.Do(request)
	if err != nil {
		return nil, "", networkError(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, "", refusal(response)
	}
	var answer struct {
		Orders []order `json:"orders"`
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, "", networkError(err)
	case len(body) > maxAnswer:
		return nil, "", &channel.Error{Class: channel.ClassReject, Code: "answer_too_large"}
	case !json.Valid(body) || channel.DecodeObject(body, &answer) != nil:
		return nil, "", &channel.Error{Class: channel.ClassRetry, Code: "unreadable_answer"}
	}
	if nearlyFull(response.Header.Get("X-Shopify-Shop-Api-Call-Limit")) {
		a.wait(ctx, fullPause)
	}
	return answer.Orders, nextPage(response.Header.Values("Link")), nil
}

// nearlyFull tells of "32/40" that three quarters of a shop's bucket are used.
func nearlyFull(limit string) bool {
	used, of, ok := strings.Cut(limit, "/")
	u, err := strconv.Atoi(used)
	size, wrong := strconv.Atoi(of)
	return ok && err == nil && wrong == nil && size > 0 && u*4 >= size*3
}

var nextLink = regexp.MustCompile(`<([^>]*)>\s*;\s*rel="?next"?`)

// nextPage is the page_info of a Link header's rel=next. The rest of that address is not followed: the token goes to
// the shop alone.
func nextPage(links []string) string {
	found := nextLink.FindStringSubmatch(strings.Join(links, ", "))
	if found == nil {
		return ""
	}
	u, err := url.Parse(found[1])
	if err != nil {
		return ""
	}
	return u.Query().Get("page_info")
}

// refusal maps an answer that is no 200 (https://shopify.dev/docs/api/usage/response-codes).
func refusal(response *http.Response) *channel.Error {
	e := &channel.Error{Class: channel.ClassReject, Code: "http_" + strconv.Itoa(response.StatusCode), NotTaken: true}
	switch {
	case response.StatusCode == http.StatusUnauthorized:
		e.Class, e.Code = channel.ClassReauthorise, "invalid_auth"
	case response.StatusCode == http.StatusTooManyRequests:
		e.Class, e.RetryAfter = channel.ClassRetry, retryAfter(response.Header.Get("Retry-After"))
	case response.StatusCode >= 500, response.StatusCode < 400, response.StatusCode == http.StatusRequestTimeout:
		e.Class = channel.ClassRetry
	}
	return e
}

// retryAfter in seconds, which Shopify writes with decimals ("2.0"); two of them where it does not say.
func retryAfter(value string) time.Duration {
	seconds, err := strconv.ParseFloat(value, 64)
	if err != nil || !(seconds >= 0) {
		seconds = 2
	}
	return time.Duration(min(seconds, 3600) * float64(time.Second))
}

// networkError is of a question, which takes nothing.
func networkError(err error) *channel.Error {
	e := channel.NetworkError(err)
	e.NotTaken = true
	return e
}

// wait for d or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	//bound:exempt no longer than the call's context
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
