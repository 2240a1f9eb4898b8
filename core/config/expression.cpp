#include "core/config/expression.h"

#include <fmt/core.h>
#include <muParser.h>

#include <cctype>
#include <cmath>

#include "core/config/messages.h"
#include "core/config/number.h"
#include "core/config/writer.h"
#include "core/error.h"

namespace cadre::config {
namespace {

double floor_divide(double a, double b) { return std::floor(a / b); }
double remainder_of(double a, double b) { return a - b * std::floor(a / b); }
double logical_not(double a) { return a == 0 ? 1 : 0; }
double floor_of(double a) { return std::floor(a); }
double ceil_of(double a) { return std::ceil(a); }
double round_of(double a) { return std::round(a); }
double trunc_of(double a) { return std::trunc(a); }

mu::Parser make_parser(const Variables& variables) {
  mu::Parser parser;
  parser.DefineOprtChars("+-*/^%&|<>=!?");
  parser.DefineOprt("%", remainder_of, mu::prMUL_DIV);
  parser.DefineOprt("//", floor_divide, mu::prMUL_DIV);
  parser.DefineFun("floor", floor_of);
  parser.DefineFun("ceil", ceil_of);
  parser.DefineFun("round", round_of);
  parser.DefineFun("trunc", trunc_of);
  parser.DefineFun("not", logical_not);
  parser.DefineConst("true", 1);
  parser.DefineConst("false", 0);
  for (const auto& [name, value] : variables) parser.DefineConst(name, value);
  return parser;
}

std::string known(const Variables& variables) {
  std::string list;
  for (const auto& entry : variables) list += (list.empty() ? "" : ", ") + entry.first;
  return list.empty() ? "there are no variables" : "variables are " + list;
}

// muParser's own words, without its full stop.
std::string complaint(const mu::Parser::exception_type& failure, const Variables& variables) {
  if (failure.GetCode() == mu::ecUNASSIGNABLE_TOKEN) {
    return fmt::format("{} is no variable or function here; {}", in_quotes(failure.GetToken()), known(variables));
  }
  std::string text = failure.GetMsg();
  while (!text.empty() && (text.back() == '.' || text.back() == ' ')) text.pop_back();
  if (!text.empty()) text[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(text[0])));
  return text;
}

class ExpressionCodec final : public Codec {
 public:
  void read(const Node& node, const Range& range, void* value, Problems& problems) const override {
    if (node.kind != Node::Kind::kScalar || node.text.empty()) {
      problems.add("", fmt::format("got {}, wanted {}", describe(node), type_name()));
      return;
    }
    auto& expression = *static_cast<Expression*>(value);
    const Parsed<double> number = parse_double(node.text);
    if (!number.fault.empty()) {
      expression.text = node.text;
      return;
    }
    const bool low = (range.min && number.value < *range.min) || (range.above && number.value <= *range.above);
    if (low) problems.add("", fmt::format("got {}, wanted {}", node.text, range.text()));
    expression = Expression(number.value);
  }

  Node write(const void* value, const Node* from) const override {
    const std::string& text = static_cast<const Expression*>(value)->text;
    return parse_double(text).fault.empty() ? plain_scalar(text, from) : string_scalar(text, from);
  }

  std::string type_name() const override { return "number or expression"; }
};

}  // namespace

Expression::Expression(double number) : text(print_double(number)) {}

double evaluate(const Expression& expression, const Variables& variables) {
  const Parsed<double> number = parse_double(expression.text);
  if (number.fault.empty()) return number.value;
  double value = 0;
  try {
    mu::Parser parser = make_parser(variables);
    parser.SetExpr(expression.text);
    int values = 0;
    const double* all = parser.Eval(values);
    if (values != 1) throw ConfigError(fmt::format("{}: {} values, wanted one", in_quotes(expression.text), values));
    value = all[0];
  } catch (const mu::Parser::exception_type& failure) {
    throw ConfigError(fmt::format("{}: {}", in_quotes(expression.text), complaint(failure, variables)));
  }
  if (!std::isfinite(value)) {
    throw ConfigError(fmt::format("{} is {}, wanted a finite number", in_quotes(expression.text), value));
  }
  return value;
}

int64_t evaluate_whole(const Expression& expression, const Variables& variables, int64_t least) {
  constexpr double kMost = 1e15;  // beyond which doubles skip whole numbers
  const double value = evaluate(expression, variables);
  if (value != std::floor(value) || value < static_cast<double>(least) || value > kMost) {
    throw ConfigError(
        fmt::format("{} is {}, wanted a whole number, at least {}", in_quotes(expression.text), value, least));
  }
  return static_cast<int64_t>(value);
}

bool evaluate_condition(const Expression& expression, const Variables& variables) {
  return evaluate(expression, variables) != 0;
}

void evaluate_all(const std::map<std::string, Expression>& more, Variables& variables) {
  std::map<std::string, Expression> left = more;
  while (!left.empty()) {
    std::string fault;
    const size_t before = left.size();
    for (auto next = left.begin(); next != left.end();) {
      try {
        variables[next->first] = evaluate(next->second, variables);
        next = left.erase(next);
      } catch (const ConfigError& failure) {
        if (fault.empty()) fault = next->first + ": " + failure.what();
        ++next;
      }
    }
    if (left.size() == before) throw ConfigError(fault);
  }
}

bool is_identifier(std::string_view text) {
  if (text.empty() || std::isalpha(static_cast<unsigned char>(text[0])) == 0) return false;
  for (const char c : text) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '_') return false;
  }
  return true;
}

CodecPtr make_expression_codec() { return std::make_unique<ExpressionCodec>(); }

}  // namespace cadre::config
