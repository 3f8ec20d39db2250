package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
)

func written(t *testing.T, root, name, text string) {
	t.Helper()
	file := filepath.Join(root, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
}

func TestACellStandsWhereARecordNamesATest(t *testing.T) {
	root := t.TempDir()
	written(t, root, "services/dove/testdata/capabilities.json", `{"receive_edits": "TestConformance/goldens/edited", "send_text": "TestConformance/a_text_is_sent"}`)
	written(t, root, "services/owl/testdata/night/capabilities.json", `{"send_text": "TestNight/a_text_is_sent"}`)
	table, err := capabilities(root, []channel.Features{{Name: "dove", Title: "Dove"}, {Name: "owl", Title: "Owl"}, {Name: "quail", Title: "Quail"}})
	require.NoError(t, err)
	require.Equal(t, `| | [Dove](services/dove/README.md) | [Owl](services/owl/README.md) | [Quail](services/quail/README.md) |
| --- | :-: | :-: | :-: |
| receives edits | [✓](services/dove/testdata/edited.golden.json "TestConformance/goldens/edited") | | |
| sends text | [✓](services/dove/testdata/capabilities.json "TestConformance/a_text_is_sent") | [✓](services/owl/testdata/night/capabilities.json "TestNight/a_text_is_sent") | |
`, table)

	written(t, root, "services/quail/testdata/capabilities.json", `{"receive_edits"`)
	_, err = capabilities(root, []channel.Features{{Name: "quail"}})
	require.ErrorContains(t, err, "quail")
}

func TestStandaloneRequiresTheServicesThereAre(t *testing.T) {
	const before = `module tributary.dev/services/standalone

replace (
	tributary.dev/libs => ../../libs
	tributary.dev/services/dove => ../dove
	tributary.dev/services/gone => ../gone
)

require (
	tributary.dev/libs v0.0.0
	tributary.dev/services/dove v0.0.0
	tributary.dev/services/gone v0.0.0
)
`
	const after = `module tributary.dev/services/standalone

replace (
	tributary.dev/libs => ../../libs
	tributary.dev/services/dove => ../dove
	tributary.dev/services/owl => ../owl
)

require (
	tributary.dev/libs v0.0.0
	tributary.dev/services/dove v0.0.0
	tributary.dev/services/owl v0.0.0
)
`
	made, err := requiring(before, []string{"owl", "dove"})
	require.NoError(t, err)
	require.Equal(t, after, made)
	again, err := requiring(after, []string{"owl", "dove"})
	require.NoError(t, err)
	require.Equal(t, after, again)
	_, err = requiring("module x\n", []string{"owl"})
	require.ErrorContains(t, err, "are not together")
}

func TestOnlyWhatStandsBetweenIsReplaced(t *testing.T) {
	root := t.TempDir()
	written(t, root, "a", "head\n# begin\nold\n# end\ntail\n")
	file := filepath.Join(root, "a")
	require.NoError(t, between(file, "# begin\n", "# end\n", "new\n"))
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "head\n# begin\nnew\n# end\ntail\n", string(text))
	require.ErrorContains(t, between(file, "# begin\n", "# none\n", ""), "no lines")
}
