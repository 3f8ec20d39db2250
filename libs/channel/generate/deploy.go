package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"tributary.dev/libs/channel"
)

// deployed spreads the channels to the chart, whose templates range over them, and to what compose reads, where they
// are.
func deployed(root string, channels []channel.Features) error {
	if _, err := os.Stat(filepath.Join(root, "charts")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := write(root, "charts/tributary/files/channels.yaml", chartFile, channels); err != nil {
		return err
	}
	for _, part := range []struct{ file, name, text string }{
		{"deploy/compose.yaml", "tokens", composeTokens},
		{"deploy/compose.yaml", "channels", composeChannels},
		{"deploy/compose.yaml", "volumes", composeVolumes},
		{"deploy/compose/env.example", "channels", composeEnv},
		{"deploy/compose/nginx.conf", "channels", composeRoutes},
	} {
		if err := replacePart(filepath.Join(root, part.file), part.name, part.text, channels); err != nil {
			return err
		}
	}
	return nil
}

// replacePart renders what stands between two comments of a file otherwise written by hand.
func replacePart(file, name, text string, channels []channel.Features) error {
	var made bytes.Buffer
	t, err := template.New(name).Funcs(template.FuncMap{
		"upper": func(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) },
		// Of the time that stopping may take, four fifths are for the calls under way; the chart reckons alike.
		"stop": func(longestCall int) int { return longestCall*5/4 + 13 },
		"add":  func(a, b int) int { return a + b },
	}).Parse(text)
	if err != nil {
		return err
	}
	if err := t.Execute(&made, channels); err != nil {
		return err
	}
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	begin, end := "# "+name+": made by make generate\n", "# /"+name+"\n"
	before, rest, ok := strings.Cut(string(old), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s: no lines %q and %q to put %s between", file, strings.TrimSpace(begin), strings.TrimSpace(end), name)
	}
	indent := before[strings.LastIndexByte(before, '\n')+1:] // that of the comment
	return os.WriteFile(file, []byte(before+begin+made.String()+indent+end+after), 0o644)
}

const chartFile = `# Made from services/*/channel.yaml by make generate.
channels:
{{- range .}}
  - name: {{.Name}}
    title: {{printf "%q" .Title}}
    bodyLimit: {{.BodyLimit}}
    longestCall: {{.LongestCall}}
{{- end}}
`

const composeTokens = `x-registry-tokens: &registry-tokens >-
  privacy:${PRIVACY_REGISTRY_TOKEN:?},connect:${CONNECT_REGISTRY_TOKEN:?},conversation:${CONVERSATION_REGISTRY_TOKEN:?}
{{- range .}},{{.Name}}:${{"{"}}{{upper .Name}}_REGISTRY_TOKEN:?}{{end}}
`

const composeChannels = `{{range .}}  {{.Name}}:
    <<: *channel
    image: tributary/{{.Name}}:0.1.0
    build: {context: .., dockerfile: deploy/Dockerfile, args: {SERVICE: {{.Name}}}}
    stop_grace_period: {{add (stop .LongestCall) 10}}s
    environment:
      <<: [*common, *channel-settings]
      TRIBUTARY_REGISTRY_TOKEN: ${{"{"}}{{upper .Name}}_REGISTRY_TOKEN:?}
      TRIBUTARY_STOP_TIMEOUT: {{stop .LongestCall}}s
    volumes: ["{{.Name}}:/var/lib/tributary/data", "bucket:/var/lib/tributary/bucket"]
{{end}}`

const composeVolumes = `{{range .}}  {{.Name}}:
{{end}}`

const composeEnv = `{{range .}}{{upper .Name}}_REGISTRY_TOKEN=
{{end}}`

const composeRoutes = `{{range .}}    location /webhooks/{{.Name}}/ { set $to {{.Name}}:8080; proxy_pass http://$to; }
    location /media/{{.Name}}/ { set $to {{.Name}}:8080; proxy_pass http://$to; }
{{end}}`
