/* SPDX-License-Identifier: MIT
 * A linker for one object: see blob.h. Only what the code generator makes for position-independent
 * code of the small model is known here. */
#include "backends/x86/blob.h"
#include <elf.h>
#include <string.h>

static const Elf64_Shdr *section(const qn_blob *b, int64_t k)
{
    const Elf64_Ehdr *h = (const Elf64_Ehdr *)(const void *)b->object;
    return (const Elf64_Shdr *)(const void *)(b->object + h->e_shoff) + k;
}

static const char *section_name(const qn_blob *b, const Elf64_Shdr *s)
{
    const Elf64_Ehdr *h = (const Elf64_Ehdr *)(const void *)b->object;
    return (const char *)b->object + section(b, h->e_shstrndx)->sh_offset + s->sh_name;
}

static bool is_wanted(const qn_blob *b, const Elf64_Shdr *s)
{
    const char *name = section_name(b, s);
    return (s->sh_flags & SHF_ALLOC) && s->sh_type != SHT_X86_64_UNWIND &&
           strcmp(name, ".eh_frame") != 0 && s->sh_size > 0;
}

static bool relocate(qn_blob *b, const Elf64_Shdr *rel, const char **why)
{
    int64_t base = b->at[rel->sh_info];
    const Elf64_Shdr *symbols = section(b, rel->sh_link);
    const Elf64_Rela *r = (const Elf64_Rela *)(const void *)(b->object + rel->sh_offset);
    const Elf64_Sym *table = (const Elf64_Sym *)(const void *)(b->object + symbols->sh_offset);
    for (uint64_t i = 0; i < rel->sh_size / sizeof *r; i++, r++) {
        const Elf64_Sym *s = &table[ELF64_R_SYM(r->r_info)];
        uint32_t type = (uint32_t)ELF64_R_TYPE(r->r_info);
        if (type != R_X86_64_PC32 && type != R_X86_64_PLT32) {
            *why = "a relocation that is not relative to the code";
            return false;
        }
        if (s->st_shndx == SHN_UNDEF || s->st_shndx >= SHN_LORESERVE || b->at[s->st_shndx] < 0) {
            const char *names = (const char *)b->object + section(b, symbols->sh_link)->sh_offset;
            *why = s->st_name ? names + s->st_name : "a symbol that is not in the object";
            return false;
        }
        int64_t place = base + (int64_t)r->r_offset;
        int64_t value = b->at[s->st_shndx] + (int64_t)s->st_value + r->r_addend - place;
        int32_t word = (int32_t)value;
        memcpy(b->bytes + place, &word, 4);
    }
    return true;
}

bool qn_blob_link(qn_arena *a, const void *object, int64_t size, qn_blob *out, const char **why)
{
    *out = (qn_blob){.object = object, .object_size = size};
    const Elf64_Ehdr *h = object;
    if (size < (int64_t)sizeof *h || memcmp(h->e_ident, ELFMAG, SELFMAG) != 0) {
        *why = "not an ELF object";
        return false;
    }
    int64_t *at = QN_NEWN(a, int64_t, h->e_shnum);
    out->at = at;
    int64_t total = 0;
    /* Code first, so that the blob's first byte is code; then the constants. */
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t k = 0; k < h->e_shnum; k++) {
            const Elf64_Shdr *s = section(out, k);
            bool code = (s->sh_flags & SHF_EXECINSTR) != 0;
            if (pass == 0) {
                at[k] = -1;
            }
            if (!is_wanted(out, s) || code != (pass == 0)) {
                continue;
            }
            if (s->sh_flags & SHF_WRITE) {
                *why = "a section that is written";
                return false;
            }
            int64_t align = s->sh_addralign > 16 ? (int64_t)s->sh_addralign : 16;
            total = (total + align - 1) / align * align;
            at[k] = total;
            total += (int64_t)s->sh_size;
        }
    }
    out->size = total;
    out->bytes = qn_arena_alloc(a, (size_t)total + 1, 64);
    for (int64_t k = 0; k < h->e_shnum; k++) {
        if (at[k] >= 0) {
            const Elf64_Shdr *s = section(out, k);
            memcpy(out->bytes + at[k], out->object + s->sh_offset, s->sh_size);
        }
    }
    for (int64_t k = 0; k < h->e_shnum; k++) {
        const Elf64_Shdr *s = section(out, k);
        if (s->sh_type == SHT_RELA && at[s->sh_info] >= 0 && !relocate(out, s, why)) {
            return false;
        }
    }
    return true;
}

int64_t qn_blob_symbol(const qn_blob *b, const char *name)
{
    const Elf64_Ehdr *h = (const Elf64_Ehdr *)(const void *)b->object;
    for (int64_t k = 0; k < h->e_shnum; k++) {
        const Elf64_Shdr *s = section(b, k);
        if (s->sh_type != SHT_SYMTAB) {
            continue;
        }
        const char *names = (const char *)b->object + section(b, s->sh_link)->sh_offset;
        const Elf64_Sym *y = (const Elf64_Sym *)(const void *)(b->object + s->sh_offset);
        for (uint64_t i = 0; i < s->sh_size / sizeof *y; i++, y++) {
            if (y->st_shndx != SHN_UNDEF && y->st_shndx < SHN_LORESERVE &&
                b->at[y->st_shndx] >= 0 && strcmp(names + y->st_name, name) == 0) {
                return b->at[y->st_shndx] + (int64_t)y->st_value;
            }
        }
    }
    return -1;
}
