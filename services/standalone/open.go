package standalone

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tributary.dev/libs/app"
)

// opener asks the API to open dead letters.
type opener struct {
	environ []string
	url     string
}

// openTimeout bounds one question to the API.
const openTimeout = 30 * time.Second

// open prints what a letter's parts hold. The API decides whether the caller may know.
func (o *opener) open(ctx context.Context, l letter, out io.Writer) error {
	common := app.Defaults()
	if _, err := app.Load(o.environ, &common); err != nil {
		return err
	}
	key := lookup(o.environ, "TRIBUTARY_API_KEY", "")
	if key == "" {
		file, err := os.ReadFile(filepath.Join(common.Data, "api-key"))
		if err != nil {
			return fmt.Errorf("an API key is needed: TRIBUTARY_API_KEY is not set, and there is none in %s", common.Data)
		}
		key = string(file)
	}
	kind := "event"
	if strings.HasPrefix(l.topic, "outbound.") {
		kind = "command"
	}
	body, err := json.Marshal(map[string][]byte{kind: l.Value})
	if err != nil {
		return err
	}
	base := cmp.Or(o.url, "http://127.0.0.1:"+lookup(o.environ, "PORT", "8080"))
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(base, "/")+"/v1/letters/open", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(key))
	//bound:timeout asking the API to open a dead letter | {} | the command fails
	client := &http.Client{Timeout: openTimeout}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("the API does not answer at %s", base)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		var problem struct{ Title, Detail string }
		_ = json.Unmarshal(answer, &problem) // what is no problem has no title
		return fmt.Errorf("the API does not open it: %d %s %s", response.StatusCode, problem.Title, problem.Detail)
	}
	var shown bytes.Buffer
	if err := json.Indent(&shown, answer, "", "  "); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, shown.String())
	return err
}
