#include "core/config/document.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/core/config/settings.h"

namespace cadre::config::test {
namespace {

std::string document_error(const std::string& text, const Limits& limits = {}) {
  return error_of([&] { parse_document("c.yaml", text, limits); });
}

TEST(DocumentTest, NodesKnowWhereTheyWereWritten) {
  const Document document = parse_document("c.yaml", "a: 1\nb:\n  - x\n  - {c: 'y'}\n");
  EXPECT_EQ(document.root.find("a")->location.text_with_column(), "c.yaml:1:4");
  const Node& list = *document.root.find("b");
  EXPECT_EQ(list.location.text(), "c.yaml:2");
  EXPECT_EQ(list.items[0].location.text_with_column(), "c.yaml:3:5");
  EXPECT_FALSE(list.items[0].quoted);
  EXPECT_EQ(list.items[1].find("c")->location.text_with_column(), "c.yaml:4:9");
  EXPECT_TRUE(list.items[1].find("c")->quoted);
}

TEST(DocumentTest, RefusesDuplicateKeys) {
  EXPECT_EQ(document_error("a: 1\nb: 2\na: 3\n"), "c.yaml:3: a: duplicate key; it was first set on line 1");
  EXPECT_EQ(document_error("x:\n  - {}\n  - {p: 1, q: {r: 1, r: 2}}\n"),
            "c.yaml:3: x[1].q.r: duplicate key; it was first set on line 3");
}

TEST(DocumentTest, RefusesWhatAConfigDoesNotNeed) {
  EXPECT_EQ(document_error("a: &x {b: 1}\nc:\n  <<: *x\n"),
            "c.yaml:3:3: merge key \"<<\" is not supported; use include: or repeat the keys");
  EXPECT_EQ(document_error("a: !!int 3\n"), "c.yaml:1:4: tag \"tag:yaml.org,2002:int\"; a config has no tags");
  EXPECT_EQ(document_error("a: !mine {b: 1}\n"), "c.yaml:1:4: tag \"!mine\"; a config has no tags");
  EXPECT_EQ(document_error("a: 1\n---\nb: 2\n"), "c.yaml:2:1: a second document; a config is one");
  EXPECT_EQ(document_error("{a: 1}: 2\n"), "c.yaml:1:1: a list or mapping as a key; keys are words");
  EXPECT_EQ(document_error("null: 2\n"), "c.yaml:1:1: an empty key, or a null; keys are words");
  EXPECT_EQ(document_error("- 1\n"), "c.yaml:1:1: a config is a mapping of keys to values");
  EXPECT_EQ(document_error("include: x.yaml\n"),
            "c.yaml:1: include: this text is not a file, so it cannot include any");
  EXPECT_EQ(document_error("\"a\\nb\": 1\n"),
            "c.yaml:1:1: key \"a\\x0ab\"; keys are words of 1 to 256 bytes without control characters");
}

TEST(DocumentTest, RefusesEmptyText) {
  for (const char* text : {"", "\n\n", "# only a comment\n"}) EXPECT_EQ(document_error(text), "c.yaml: empty") << text;
  EXPECT_NE(document_error("---\n"), "no error");
}

TEST(DocumentTest, SyntaxErrorsNameLineAndColumn) {
  EXPECT_EQ(document_error("a:\n\tb: 1\n"),
            "c.yaml:2:3: illegal map value; this line is indented with a tab, use spaces");
  EXPECT_EQ(document_error("a:\n  b: 1\n\tc: 2\n"), "c.yaml:3:1: illegal tab when looking for indentation");
  EXPECT_EQ(document_error("a: [1, 2\nb: 3\n"), "c.yaml:2:2: end of sequence flow not found");
  EXPECT_EQ(document_error("a: 1\n  b: 2\n"),
            "c.yaml:2:4: illegal map value; is there a colon too many, or is the indentation wrong?");
  EXPECT_EQ(document_error("a: *nobody\n").substr(0, 9), "c.yaml:1:");
}

TEST(DocumentTest, RefusesAKeyWithoutAColon) {
  EXPECT_EQ(document_error("a: 1\nb\n"),
            "c.yaml:2:1: end of map not found; is a colon missing, or the indentation wrong?");
  EXPECT_EQ(document_error("a: {b}\n"), "c.yaml:1:5: \"b\" has no \":\" after it");
  for (const char* text : {"a: {b, c: 1}\n", "a: {'b', c: 1}\n", "a: {c: 1, b}\n", "a: |\nb # c: d\n", "? a\n",
                           "? a\n: b\n", "'a'\n", "a: 1\n\"b\"\n"}) {
    EXPECT_NE(document_error(text), "no error") << text;
  }
  for (const char* text :
       {"a:\n", "a : 1\n", "'a b': 1\n", "'a''b' : 1\n", "\"a\\\":\": 1\n", "a: {b: , c: }\n", "a::b: 1\n",
        "{\"a\":1}\n", "a,b: 1\n", "\xEF\xBB\xBF# h\xC3\xA9\r\nh\xC3\xA9: 1\r\nb: {c: 2}\r\n"}) {
    EXPECT_EQ(document_error(text), "no error") << text;
  }
}

TEST(DocumentTest, NoTruncatedConfigIsAccepted) {
  EXPECT_EQ(document_error("a: \"x\n"), "c.yaml:2:2: illegal EOF in scalar; a quote is not closed");
  const std::string whole = "{a: 'it''s\n  long', b: [1, {c: \"x\\\"\n\n y\"}, 'z\n'],\n d: \"\n\n\"\n}";
  EXPECT_EQ(document_error(whole), "no error");
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_NE(document_error(whole.substr(0, length)), "no error") << whole.substr(0, length);
    EXPECT_NE(document_error(whole.substr(0, length) + "\n"), "no error") << whole.substr(0, length);
  }
  for (const char* text : {"a: 'x\n", "a: 'x\n\n", "a: \"x\n  ", "a: \"x", "a: &b 'x\n", "a: 'x\n# it\n"}) {
    EXPECT_NE(document_error(text), "no error") << text;
  }
  EXPECT_EQ(parse_document("c", "a: |\n  x\n\n").root.find("a")->text, "x\n");
  EXPECT_EQ(parse_document("c", "a: |+\n  x\n\n").root.find("a")->text, "x\n\n");
}

TEST(DocumentTest, RefusesBytesThatAreNotText) {
  EXPECT_EQ(document_error("a: 1\nb: \x04\nc: 3\n"), "c.yaml:2:4: control character 0x04; a config is UTF-8 text");
  EXPECT_EQ(document_error("a: \xFF\n"), "c.yaml:1:4: byte 0xFF is not UTF-8; a config is UTF-8 text");
  EXPECT_EQ(document_error("a: \xED\xA0\x80\n"), "c.yaml:1:4: byte 0xED is not UTF-8; a config is UTF-8 text");
  EXPECT_EQ(document_error("a: \xC0\x80\n"), "c.yaml:1:4: byte 0xC0 is not UTF-8; a config is UTF-8 text");
  EXPECT_EQ(document_error("a: 1\rb: 2"), "c.yaml:1:5: control character 0x0D; a config is UTF-8 text");
  EXPECT_EQ(document_error(std::string("a: 1\0", 5)), "c.yaml:1:5: control character 0x00; a config is UTF-8 text");
  EXPECT_EQ(document_error("\xEF\xBB\xBF# with a byte order mark\r\na: h\xC3\xA9, \xE2\x82\xAC \xF0\x9F\x98\x80\r\n"),
            "no error");
}

TEST(DocumentTest, AliasesExpandButBombsDoNot) {
  const Document document = parse_document("c.yaml", "a: &x {b: 1}\nc: *x\n");
  EXPECT_EQ(document.root.find("c")->find("b")->text, "1");

  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    const std::string previous = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + previous;
    for (int j = 0; j < 9; ++j) bomb += ", " + previous;
    bomb += "]\n";
  }
  EXPECT_EQ(document_error(bomb), "c.yaml:5:40: more than 100000 values, aliases expanded");
  EXPECT_EQ(document_error("a: &x [1, *x]\n"), "c.yaml:1:11: an alias of something that contains it");

  std::string wide = "a: &x \"" + std::string(1 << 20, 'y') + "\"\nb: [*x";
  for (int i = 0; i < 100; ++i) wide += ", *x";
  EXPECT_NE(document_error(wide + "]\n").find("bytes of text, aliases expanded"), std::string::npos);

  std::string tower = "a0: &a0 [x]\n";  // each alias is shallow where it stands, but deep when expanded
  for (int i = 1; i < 100; ++i) {
    tower += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [*a" + std::to_string(i - 1) + "]\n";
  }
  EXPECT_NE(document_error(tower).find("nested more than 64 levels deep"), std::string::npos);
}

TEST(DocumentTest, LimitsHold) {
  const auto nested = [](int depth) { return "a: " + std::string(depth, '[') + std::string(depth, ']') + "\n"; };
  EXPECT_EQ(document_error(nested(63)), "no error");
  EXPECT_EQ(document_error(nested(64)), "c.yaml:1:67: nested more than 64 levels deep");
  EXPECT_NE(document_error(nested(5'000)).find("levels deep"), std::string::npos);
  std::string block;
  for (int i = 0; i < 200; ++i) block += std::string(i, ' ') + "a:\n";
  EXPECT_NE(document_error(block).find("levels deep"), std::string::npos);
  EXPECT_EQ(document_error("a: " + std::string(5 << 20, 'x')), "c.yaml:1:1: 5242883 bytes; at most 4194304 are read");
  EXPECT_EQ(document_error("a: [1, 2, 3]\n", {.nodes = 4}), "c.yaml:1:11: more than 4 values, aliases expanded");
  EXPECT_NE(document_error(std::string(1 << 20, '[')), "no error");
  EXPECT_NE(document_error(std::string(1 << 20, '{')), "no error");
}

TEST(DocumentTest, MergeIsDeepForMappingsOnly) {
  Node base = parse_document("a", "m: {x: 1, y: {p: 1, q: 2}}\nl: [1, 2]\ns: 1\nn: {k: 1}\n").root;
  merge(base, parse_document("b", "m: {y: {q: 3}, z: 4}\nl: [9]\nt: 5\nn: null\n").root);
  EXPECT_EQ(base.find("m")->find("x")->text, "1");
  EXPECT_EQ(base.find("m")->find("y")->find("p")->text, "1");
  EXPECT_EQ(base.find("m")->find("y")->find("q")->text, "3");
  EXPECT_EQ(base.find("m")->find("y")->find("q")->location.text(), "b:1");
  EXPECT_EQ(base.find("m")->find("z")->text, "4");
  EXPECT_EQ(base.find("l")->items.size(), 1u);
  EXPECT_EQ(base.find("n")->kind, Node::Kind::kNull);
  EXPECT_EQ(base.find("t")->text, "5");
}

}  // namespace
}  // namespace cadre::config::test
