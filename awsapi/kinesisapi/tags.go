package kinesisapi

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/stream"
)

// tagText matches keys and values of tags (API reference, Tag). Of white space
// AWS takes the blank alone, and no control characters.
var tagText = regexp.MustCompile(`^[\x{00C0}-\x{1FFF}\x{2C00}-\x{D7FF}\w./\-=+: @%]*$`)

// checkTags refuses keys and values with characters that tags may not have.
// Doing is the part of the error that says what failed. A percent sign passes
// the first check and not the second, as on AWS.
func checkTags(c *call, doing string, keys, values []string) error {
	for _, s := range append(keys, values...) {
		if !tagText.MatchString(s) {
			return invalid("Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + - %% @.")
		}
	}
	for _, s := range append(keys, values...) {
		if strings.Contains(s, "%") {
			return invalid("Failed to %s %s under account %s because some tags contained illegal characters. The allowed characters are "+
				"Unicode letters, white-spaces, '_',',','/','=','+','-','@'.", doing, c.name, c.Scope.Account)
		}
	}
	for _, k := range keys {
		if len(k) >= len(reservedTag) && strings.EqualFold(k[:len(reservedTag)], reservedTag) {
			return invalid("aws: prefixed tag key names are not allowed for external use.")
		}
	}
	return nil
}

// reservedTag begins the keys of tags that only AWS itself sets and removes, in
// any case of letters (AWS tagging guide).
const reservedTag = "aws:"

// mergeTags returns tags with those of the request added.
func mergeTags(c *call, have map[string]string, doing string) (map[string]string, error) {
	given := awswire.Get[awswire.Pairs](c.In, "Tags")
	all := maps.Clone(have)
	if all == nil {
		all = map[string]string{}
	}
	var keys, values []string
	for _, p := range given {
		value := p.Value.(string) // by the model
		all[p.Key] = value
		keys, values = append(keys, p.Key), append(values, value)
	}
	if err := checkTags(c, doing, keys, values); err != nil {
		return nil, err
	}
	if len(all) > stream.MaxTags {
		return nil, invalid("Failed to %s %s under account %s because a given stream cannot have more than %d tags associated with it.", doing, c.name, c.Scope.Account, stream.MaxTags)
	}
	return all, nil
}

// tagged is a stream or a consumer, both of which have tags. The control of the
// stream is held.
type tagged struct {
	tags   map[string]string
	set    func(map[string]string) error
	remove func([]string) error
}

// tagsOfStream returns a stream as something that has tags.
func tagsOfStream(c *call, s *streamState) tagged {
	return tagged{
		tags:   s.st.Info().Tags,
		set:    func(all map[string]string) error { return s.st.SetTags(c.Ctx, all) },
		remove: func(keys []string) error { return s.st.RemoveTags(c.Ctx, keys...) },
	}
}

// addTags adds the tags of a request.
func addTags(c *call, t tagged) error {
	all, err := mergeTags(c, t.tags, "add tags to stream")
	if err == nil {
		err = t.set(all)
	}
	return err
}

// removeTags removes tags by key. Keys that are not there are no error.
func removeTags(c *call, t tagged) error {
	var keys []string
	for _, k := range awswire.Get[[]any](c.In, "TagKeys") {
		keys = append(keys, k.(string))
	}
	if err := checkTags(c, "remove tags from stream", keys, nil); err != nil {
		return err
	}
	return t.remove(keys)
}

// writeTags writes the tags by key, from the one that follows after, and reports
// whether there are more than limit; 0 is no limit.
func writeTags(c *call, tags map[string]string, after string, limit int) (more bool) {
	keys := slices.Sorted(maps.Keys(tags))
	if from, found := slices.BinarySearch(keys, after); after != "" {
		if found {
			from++
		}
		keys = keys[from:]
	}
	if more = limit > 0 && len(keys) > limit; more {
		keys = keys[:limit]
	}
	e := &c.Out
	e.Key("Tags")
	e.List()
	for _, k := range keys {
		e.Open()
		e.TextField("Key", k)
		e.TextField("Value", tags[k])
		e.Close()
	}
	e.EndList()
	return more
}

// addTagsToStream carries out AddTagsToStream.
func addTagsToStream(c *call) error {
	s, err := c.lockActive()
	if err != nil {
		return err
	}
	defer s.control.Unlock()
	return addTags(c, tagsOfStream(c, s))
}

// removeTagsFromStream carries out RemoveTagsFromStream.
func removeTagsFromStream(c *call) error {
	s, err := c.lockActive()
	if err != nil {
		return err
	}
	defer s.control.Unlock()
	return removeTags(c, tagsOfStream(c, s))
}

// listTagsForStream carries out ListTagsForStream.
func listTagsForStream(c *call) error {
	s, err := c.stream()
	if err != nil {
		return err
	}
	c.Out.Open()
	more := writeTags(c, s.st.Info().Tags, c.In.Text("ExclusiveStartTagKey"), int(c.In.Int("Limit")))
	c.Out.BoolField("HasMoreTags", more)
	c.Out.Close()
	return nil
}

// withResourceTags calls do with the tags of what lock has found. The control of
// the stream is held meanwhile.
func withResourceTags(c *call, lock func() (*streamState, *consumer, error), do func(*call, tagged) error) error {
	s, con, err := lock()
	if err != nil {
		return err
	}
	defer s.control.Unlock()
	if con == nil {
		return do(c, tagsOfStream(c, s))
	}
	return do(c, tagged{
		tags: con.Tags,
		set: func(all map[string]string) error {
			return replaceConsumer(c.Ctx, s, con, func(next *consumer) { next.Tags = all })
		},
		remove: func(keys []string) error {
			return replaceConsumer(c.Ctx, s, con, func(next *consumer) {
				next.Tags = maps.Clone(next.Tags)
				for _, k := range keys {
					delete(next.Tags, k)
				}
			})
		},
	})
}

func tagResource(c *call) error { return withResourceTags(c, c.lockActiveResource, addTags) }

func untagResource(c *call) error { return withResourceTags(c, c.lockActiveResource, removeTags) }

// listTagsForResource carries out ListTagsForResource, which has no pages.
func listTagsForResource(c *call) error {
	return withResourceTags(c, c.lockResource, func(c *call, t tagged) error {
		c.Out.Open()
		writeTags(c, t.tags, "", 0)
		c.Out.Close()
		return nil
	})
}
