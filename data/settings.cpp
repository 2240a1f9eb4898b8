#include "data/settings.h"

namespace cadre::config {

using data::DataSettings;
using data::HeldOutSettings;
using data::SourceSettings;
using data::TokenizerKind;
using data::TokenizerSettings;

void Schema<TokenizerSettings>::fields(Fields<TokenizerSettings>& f) {
  f.about("How text becomes tokens.");
  f.add("kind", &TokenizerSettings::kind, "Tokenizer").shorthand();
  f.add("path", &TokenizerSettings::path, "Its file, as `cadre tokenizer train` writes it; bytes need none");
  f.add("append_eod", &TokenizerSettings::append_eod,
        "End each document by a token of its own (bytes: vocabulary of 257 instead of 256); null: as the file says");
}

void Schema<TokenizerSettings>::check(const TokenizerSettings& settings, Problems& problems) {
  if (settings.kind == TokenizerKind::kSentencePiece && !settings.path) {
    problems.add("path", "got nothing; a sentencepiece tokenizer needs the path of its .model file");
  }
}

void Schema<SourceSettings>::fields(Fields<SourceSettings>& f) {
  f.about("A token file.");
  f.add("path", &SourceSettings::path, "Prefix of a Megatron .bin/.idx pair, either of its files, or an llm.c .bin")
      .not_empty()
      .required()
      .shorthand();
  f.add("weight", &SourceSettings::weight, "Share of samples, relative to the other sources").above(0);
}

void Schema<HeldOutSettings>::fields(Fields<HeldOutSettings>& f) {
  f.about("A token file that is not trained on.");
  f.add("path", &HeldOutSettings::path, "As data.train[].path").not_empty().required().shorthand();
}

void Schema<DataSettings>::fields(Fields<DataSettings>& f) {
  f.about("What is trained on.");
  f.add("tokenizer", &DataSettings::tokenizer, "How text becomes tokens");
  f.add("train", &DataSettings::train, "Token files to train on");
  f.add("validation", &DataSettings::validation, "Token files held out, whose loss is reported; see validation");
  f.add("seq_length", &DataSettings::seq_length, "Tokens per sample").min(1).max(1 << 24);
  f.add("reset_at_documents", &DataSettings::reset_at_documents,
        "Attention and positions start anew at each document of a sample");
  f.add("prefetch", &DataSettings::prefetch, "Micro-batches loaded ahead in the background; 0: load on demand")
      .min(0)
      .max(1024);
}

}  // namespace cadre::config
